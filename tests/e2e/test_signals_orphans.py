"""However the daemon ends, its nats-server ends with it; and while both run, nothing of them shows a secret.

A signal that a program cannot catch, two in a row, one in the middle of the start: afterwards no process is left, both
ports can be taken, and the same directory serves again.
"""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import time
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import nats
import pytest

from tests.builders import identity
from tests.e2e.conftest import StartDaemon
from tests.support.daemon import Daemon, spawn
from tests.support.people import WAIT, Place
from tests.support.processes import nats_servers, no_nats_server
from unibus.bus.life import DRAIN_WITHIN, STOP_GRACE
from unibus.crypto.encoding import b64u
from unibus.crypto.nkeys import encode_seed

TERM, INT, KILL, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGHUP
CAUGHT = {TERM, INT}
ENDINGS: Sequence[tuple[signal.Signals, ...]] = [
    (KILL,),
    (signal.SIGQUIT,),
    (signal.SIGABRT,),
    (signal.SIGUSR1,),
    (signal.SIGUSR2,),
    (TERM, TERM),
    (INT, TERM),
    (TERM, KILL),
    (HUP, KILL),
]


def names(signals: Sequence[signal.Signals]) -> str:
    """The signals, for people."""
    return " ".join(number.name for number in signals)


async def take(port: int) -> None:
    """Listen on the port, which nobody does any more but perhaps another test for a while. Raises TimeoutError."""
    async with asyncio.timeout(WAIT):
        while not listened(port):  # noqa: ASYNC110 - nobody tells when a port is free
            await asyncio.sleep(0.1)


def listened(port: int) -> bool:
    """Whether one can listen on the port."""
    with socket.socket() as free, contextlib.suppress(OSError):
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended may still wait
        free.bind(("127.0.0.1", port))
        free.listen()
        return True
    return False


@pytest.mark.parametrize("signals", ENDINGS, ids=names)
async def test_no_signal_leaves_a_child_or_a_port(
    start_daemon: StartDaemon, data_dir: Path, signals: Sequence[signal.Signals]
) -> None:
    daemon: Daemon = await start_daemon()
    assert len(nats_servers(data_dir)) == 1
    for number in signals:
        daemon.process.send_signal(number)
    status = await daemon.ended()
    assert status == 0 if CAUGHT.issuperset(signals) else status == -signals[-1]
    await no_nats_server(data_dir)
    await take(daemon.http_port)
    await take(daemon.nats_port)


@pytest.mark.parametrize("number", [HUP, signal.SIGPIPE], ids=["hup", "pipe"])
async def test_what_is_no_request_to_end_does_not_end_it(
    start_daemon: StartDaemon, data_dir: Path, number: signal.Signals
) -> None:
    daemon: Daemon = await start_daemon()
    daemon.process.send_signal(number)
    await Place(daemon.url, data_dir).found()
    assert len(nats_servers(data_dir)) == 1
    assert await daemon.stop() == 0
    assert nats_servers(data_dir) == []


def late_server(where: Path, wait: str) -> Path:
    """A nats-server that does not begin before `wait`, a command of the shell, has ended."""
    script = where / "slow-nats-server"
    answers = '--version) echo "nats-server: v2.99.0"; exit;; -t) exit;;'
    script.write_text(f'#!/bin/sh\ncase "$1" in {answers} esac\ntouch "{where}/begun"\n{wait}\n')
    script.chmod(0o700)
    return script


async def begun(where: Path) -> None:
    """Return once the late server is there."""
    async with asyncio.timeout(WAIT):
        while not (where / "begun").exists():  # noqa: ASYNC110 - it is another process that says so
            await asyncio.sleep(0.01)


def children_of(pid: int) -> list[int]:
    """The servers that a process has started, without what it only asks about a version or a configuration."""
    found = {
        child: arguments(child)
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        if runs(child)
    }
    # What has been forked only now still has its parent's arguments, and is nobody's server yet.
    no_server = {b"-t", b"--version", b"unibus.daemon"}
    return [child for child, given in found.items() if given and not no_server & given]


def arguments(pid: int) -> set[bytes]:
    """The arguments of a process; none of one that ends at this moment, whether or not its parent knows."""
    try:
        return set(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")) - {b""}
    except OSError:
        return set()


def runs(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("number", "wait"),
    [(TERM, "exec sleep 60"), (INT, "sleep 60; :"), (KILL, "exec sleep 60")],
    ids=["term", "int", "kill"],
)
async def test_a_signal_ends_a_start_that_takes_long(
    data_dir: Path, tmp_path: Path, number: signal.Signals, wait: str
) -> None:
    """A server that does not come up must not keep the daemon from ending, nor what a wrapper around it has started."""
    process = await spawn(data_dir, "--nats-server", str(late_server(tmp_path, wait)))
    try:
        await begun(tmp_path)
        (child,) = children_of(process.pid)
        process.send_signal(number)
        async with asyncio.timeout(WAIT):
            out, said = await process.communicate()
            while runs(child):  # noqa: ASYNC110 - the kernel tells only the parent, and that is gone
                await asyncio.sleep(0.01)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == (-number if number == KILL else 0)
    assert out == b""
    assert b"Traceback" not in said


class Seen(NamedTuple):
    """What others on the machine could see of the daemon and its child, and the modes of all that they keep."""

    told: list[bytes]
    modes: dict[str, str]


def look(daemon: Daemon) -> Seen:
    """The arguments and environments of both processes; what of the data directory group or others may touch."""
    pids = [daemon.process.pid, *children_of(daemon.process.pid)]
    assert len(pids) == 2
    told = [Path(f"/proc/{pid}/{name}").read_bytes() for pid in pids for name in ("cmdline", "environ")]
    return Seen(told, wide(daemon.data_dir))


def wide(data_dir: Path) -> dict[str, str]:
    """The files in and below the data directory that others than their owner may touch, with their modes."""
    found = [data_dir, *data_dir.rglob("*")]
    assert len(found) > 10
    modes = {str(path): stat.S_IMODE(path.lstat().st_mode) for path in found}
    return {path: oct(mode) for path, mode in modes.items() if mode & 0o077}


async def test_no_argument_no_environment_and_no_file_mode_shows_a_secret(
    start_daemon: StartDaemon, data_dir: Path
) -> None:
    before = os.umask(0)  # the most careless one there is
    try:
        daemon: Daemon = await start_daemon()
    finally:
        os.umask(before)
    place = Place(daemon.url, data_dir)
    token = place.token
    first = look(daemon)
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        room = await ada.create_room("ops")
        await room.send("kept")
        await room.put_blob(BytesIO(bytes(100_000)), "zeros")
        key = await ada.keyring.current(room.state)
        second = look(daemon)
    await daemon.kill()
    await no_nats_server(data_dir)
    left = wide(data_dir)
    again = look(await start_daemon())
    assert [first.modes, second.modes, left, again.modes] == [{}, {}, {}, {}]
    seed = identity("ada").signing.seed
    secrets = [token, encode_seed("U", seed), seed.hex(), b64u(seed), b64u(key), key.hex()]
    told = b"\0".join([*first.told, *second.told, *again.told])
    assert str(data_dir).encode() in told, "the search would find what is there"
    assert [secret for secret in secrets if secret.encode() in told] == []


def largest_core(pid: int) -> list[str]:
    """What the process may write when it crashes: the soft and the hard limit."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return next(line for line in lines if line.startswith("Max core file size")).split()[4:6]


async def test_a_crash_writes_no_core(start_daemon: StartDaemon) -> None:
    """What a process has in memory would else lie on disk: keys of the bus, and requests on their way."""
    daemon: Daemon = await start_daemon()
    pids = daemon.process.pid, *children_of(daemon.process.pid)
    assert [largest_core(pid) for pid in pids] == [["0", "0"], ["0", "0"]]


async def test_who_is_connected_is_told_to_leave_and_the_end_does_not_wait_for_who_stays(
    start_daemon: StartDaemon, data_dir: Path
) -> None:
    """One that is told stays all the same: the server says lame duck, and ends within the bound."""
    daemon: Daemon = await start_daemon()
    await Place(daemon.url, data_dir).found()
    told = asyncio.Event()

    async def tell() -> None:
        told.set()

    client = await nats.connect(
        f"nats://127.0.0.1:{daemon.nats_port}",
        nkeys_seed_str=encode_seed("U", identity("ada").signing.seed),
        token="rooms=",  # noqa: S106 - what a connection asks for, no secret
        allow_reconnect=False,
        lame_duck_mode_cb=tell,
    )
    began = time.monotonic()
    assert await daemon.stop() == 0
    assert DRAIN_WITHIN < time.monotonic() - began < DRAIN_WITHIN + STOP_GRACE
    assert told.is_set()
    await client.close()
    await no_nats_server(data_dir)
