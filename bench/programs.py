"""The programs under measurement, each a process of its own on a free port.

All of them end with the measuring process, however that ends. Never measures anything.
"""

import asyncio
import contextlib
import json
import os
import sys
import sysconfig
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
START_SECONDS = 20.0
STOP_SECONDS = 10.0


@asynccontextmanager
async def program(arguments: list[str], word: str, errors: Path) -> AsyncIterator[str]:
    """Run a program; gives the rest of the first line of its output that begins with `word`.

    Its error output goes into the file `errors`. Raises StartRefused.
    """
    with errors.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env={},  # variables of whoever measures must not configure what is measured
        )
    assert process.stdout is not None
    try:
        found = await _first(process.stdout, word)
        if found is None:
            raise StartRefused(f"{errors.stem} did not start: {_last_line(errors)}")
        yield found
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


@asynccontextmanager
async def daemon(where: Path) -> AsyncIterator[tuple[str, Path]]:
    """unibus-membershipd as anybody would run it; gives its URL and its data directory. Raises StartRefused."""
    data = where / "unibus"
    script = str(Path(sysconfig.get_path("scripts")) / "unibus-membershipd")
    arguments = [sys.executable, script, "--data-dir", str(data)]
    for bind in ("--http-bind", "--nats-bind"):
        arguments += [bind, "127.0.0.1:0"]
    arguments += [
        "--rate-per-user",
        "0",
        "--appends-per-user",
        "0",
    ]  # one user asks as fast as the machine allows: that is what is measured
    async with program(arguments, "http", where / "daemon.log") as address:
        yield f"http://{address}", data


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


@asynccontextmanager
async def bare_handler(where: Path, public: str) -> AsyncIterator[int]:
    """`bench.bare`, which knows the key `public`; gives its port. Raises StartRefused."""
    async with program([sys.executable, bare.__file__, public], "port", where / "bare.log") as port:
        yield int(port)


@asynccontextmanager
async def plain_nats(where: Path, *, synced: bool) -> AsyncIterator[str]:
    """A nats-server without users, with one stream on disk; `synced` if it is to sync before it acknowledges.

    Gives its URL. Raises StartRefused, BusUnavailable.
    """
    config = _plain_config(where, synced=synced)
    child = await Child.start(binary.find(None), config, structlog.get_logger("bench"))
    try:
        url = f"nats://127.0.0.1:{await child.port(where)}"
        client = await nats.connect(url, max_reconnect_attempts=1)
        try:
            await client.jetstream().add_stream(StreamConfig(name=STREAM, subjects=[SUBJECTS]))
        finally:
            await client.close()
        yield url
    finally:
        await child.stop(STOP_SECONDS)


def _plain_config(where: Path, *, synced: bool) -> Path:
    store = {"store_dir": str(where), **({"sync_interval": "always"} if synced else {})}
    where.mkdir()
    file = where / "nats.conf"
    file.write_text(json.dumps({"host": "127.0.0.1", "port": -1, "ports_file_dir": str(where), "jetstream": store}))
    return file
