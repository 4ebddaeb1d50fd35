"""The programs under measurement, each a process of its own on a free port.

All of them end with the measuring process, however that ends. Never measures anything.
"""

import asyncio
import contextlib
import json
import os
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import nats
import structlog
from nats.js.api import StreamConfig

from bench import bare
from unibus.bus import binary, launch
from unibus.bus.child import Child
from unibus.errors import StartRefused

STREAM, SUBJECTS = "PLAIN", "plain.>"
LOOK = 0.005  # seconds between two looks at /healthz
START_SECONDS = 20.0
STOP_SECONDS = 10.0


@asynccontextmanager
async def program(arguments: Sequence[str], word: str, errors: Path) -> AsyncIterator[str]:
    """Run a program; gives the rest of the first line of its output that begins with `word`.

    Its error output goes into the file `errors`. Raises StartRefused.
    """
    async with running(arguments, errors) as process:
        assert process.stdout is not None
        found = await _first(process.stdout, word)
        if found is None:
            raise StartRefused(f"{errors.stem} did not start: {_last_line(errors)}")
        yield found


@asynccontextmanager
async def running(
    arguments: Sequence[str], errors: Path, cwd: Path | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program, with its error output in the file `errors`; in the folder `cwd` if it leaves something there."""
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            cwd=cwd,
            env={},  # variables of whoever measures must not configure what is measured
        )
    try:
        yield process
    finally:
        await _end(process)


async def _first(output: asyncio.StreamReader, word: str) -> str | None:
    try:
        async with asyncio.timeout(START_SECONDS):
            async for line in output:
                name, _, rest = line.decode().strip().partition(" ")
                if name == word:
                    return rest.strip()
    except TimeoutError:
        pass
    return None


def _last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line), "it did not say why")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


def daemon_command(data: Path, *flags: str) -> list[str]:
    """What starts unibus-membershipd as anybody would, on free ports of this machine."""
    script = str(Path(sysconfig.get_path("scripts")) / "unibus-membershipd")
    binds = ("--http-bind", "127.0.0.1:0", "--nats-bind", "127.0.0.1:0")
    # One user asks as fast as the machine allows: that is what is measured.
    unlimited = ("--rate-per-user", "0", "--appends-per-user", "0")
    return [sys.executable, script, "--data-dir", str(data), *binds, *unlimited, *flags]


@asynccontextmanager
async def daemon(where: Path, *flags: str) -> AsyncIterator[tuple[str, Path]]:
    """unibus-membershipd with `flags`; gives its URL and its data directory, in `where`. Raises StartRefused."""
    data = where / "unibus"
    async with program(daemon_command(data, *flags), "http", where / "daemon.log") as address:
        yield f"http://{address}", data


def daemon_process(data: Path) -> int:
    """The process of the daemon that holds the data directory `data`."""
    return int((data / "lock").read_text())


def kept(where: Path) -> Path:
    """The directory `where`, made if it is not there."""
    where.mkdir(exist_ok=True)
    return where


def fresh(where: Path) -> Path:
    """The new directory `where`."""
    where.mkdir()
    return where


async def healthy(url: str) -> None:
    """Return once `url` answers 200."""
    async with aiohttp.ClientSession() as session:
        while True:
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(LOOK)


async def listening(port: int) -> None:
    """Return once somebody listens on `port` of this machine."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(LOOK)
        else:
            writer.close()
            return


async def nats_port(url: str) -> int:
    """Where the daemon at `url` has its members connect."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/bus") as answer:
        return int((await answer.json())["nats_port"])


def nats_server(data: Path) -> int:
    """The process of the nats-server that works on the data directory `data`. Raises StartRefused."""
    config = str(data / "run" / "nats-server.conf").encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended while we looked
            arguments = entry.read_bytes().split(b"\0")
            if config in arguments and b"-t" not in arguments:
                return int(entry.parent.name)
    raise StartRefused(f"no nats-server works on {data}")


@dataclass(frozen=True, slots=True)
class Bare:
    """`bench.bare`: where it listens, and its process."""

    port: int
    pid: int


@asynccontextmanager
async def bare_handler(where: Path, public: str) -> AsyncIterator[Bare]:
    """`bench.bare`, which knows the key `public` and keeps what it is sent in `where`. Raises StartRefused."""
    arguments = [sys.executable, bare.__file__, public, str(where / "bare")]
    async with program(arguments, "port", where / "bare.log") as said:
        port, pid = said.split()
        yield Bare(int(port), int(pid))


@dataclass(frozen=True, slots=True)
class Server:
    """A nats-server with settings of its own: where it listens for clients and for `/healthz`, and its process."""

    url: str
    port: int
    monitor: int
    pid: int


@asynccontextmanager
async def nats_child(where: Path, settings: Mapping[str, object]) -> AsyncIterator[Server]:
    """A nats-server with `settings`, and its data in the directory `where`. Raises StartRefused, BusUnavailable."""
    file = kept(where) / "nats.conf"
    own = {"host": "127.0.0.1", "port": -1, "http": "127.0.0.1:-1", "ports_file_dir": str(where)}
    file.write_text(json.dumps({**own, **settings}))
    child = await Child.start(binary.find(None), file, structlog.get_logger("bench"))
    try:
        port = await child.port(where)
        yield Server(f"nats://127.0.0.1:{port}", port, await child.port(where, "monitoring"), child.pid)
    finally:
        await child.stop(STOP_SECONDS)


@asynccontextmanager
async def plain_nats(where: Path, *, synced: bool) -> AsyncIterator[Server]:
    """A nats-server without users, with one stream on disk; `synced` if it is to sync before it acknowledges.

    Raises StartRefused, BusUnavailable.
    """
    store = {"store_dir": str(where), **({"sync_interval": "always"} if synced else {})}
    async with nats_child(where, {"jetstream": store}) as server:
        client = await nats.connect(server.url, max_reconnect_attempts=1)
        try:
            await client.jetstream().add_stream(StreamConfig(name=STREAM, subjects=[SUBJECTS]))
        finally:
            await client.close()
        yield server
