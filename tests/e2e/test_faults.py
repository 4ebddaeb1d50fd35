"""What can befall nats-server and what it stands on: each is noticed, named in `/healthz` and in the log, and mended.

Tried again where that can help. Where it cannot, the daemon ends with a sentence that says what to do.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.people import Place, tail
from tests.support.processes import WAIT, kill_nats_server, nats_servers, no_nats_server
from unibus.bus import binary

TOTAL = 200
SLOWLY = pytest.mark.faults


async def health(daemon: Daemon) -> dict[str, Any]:
    """What `/healthz` says, whose status goes with its words."""
    async with aiohttp.ClientSession() as session, session.get(f"{daemon.url}/healthz") as response:
        found: dict[str, Any] = await response.json()
    assert response.status == (200 if found["status"] == "ok" else 503)
    return found


async def health_where(daemon: Daemon, holds: Callable[[dict[str, Any]], bool], within: float = WAIT) -> dict[str, Any]:
    """What `/healthz` says once `holds` is true of it; fail if that takes too long, showing what it said last."""
    found: dict[str, Any] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within):
            while True:
                found = await health(daemon)
                if holds(found):
                    return found
                await asyncio.sleep(0.02)
    pytest.fail(f"/healthz still says {found.get('reasons')}")


def down(found: dict[str, Any]) -> bool:
    return found["bus"]["ready"] is False


def well(found: dict[str, Any]) -> bool:
    return str(found["status"]) == "ok"


def script(path: Path, lines: str) -> Path:
    """A program of the shell's at `path`; one that is there is replaced at once, as an upgrade would."""
    partial = path.with_suffix(".new")
    partial.write_text(f"#!/bin/sh\n{lines}\n")
    partial.chmod(0o700)
    return partial.replace(path)


def real_server(path: Path) -> Path:
    """The right nats-server, under another name."""
    return script(path, f'exec {binary.find(None)} "$@"')


async def serves(daemon: Daemon) -> None:
    """Send a message and read all that were sent, which is the proof that all is well again."""
    place = Place(daemon.url, daemon.data_dir)
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        room = await ada.room("ops")
        position = await room.send("and on")
        async with tail(room) as reading:
            while not reading.positions or reading.positions[-1] != position:
                await reading.until(len(reading.got) + 1)
            assert reading.texts[:TOTAL] == [str(number) for number in range(TOTAL)]


async def begin(daemon: Daemon) -> None:
    """A bus with a room that has some messages."""
    place = Place(daemon.url, daemon.data_dir)
    await place.found()
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        room = await ada.create_room("ops")
        for number in range(TOTAL):
            room.post(str(number))
            if number % 10 == 9:
                await room.drain()
    assert well(await health(daemon))


async def test_killed(start_daemon: StartDaemon) -> None:
    daemon: Daemon = await start_daemon()
    await begin(daemon)
    kill_nats_server(daemon.data_dir)
    shown = await health_where(daemon, down)
    assert shown["reasons"][0].startswith("the bus is down: ")
    told = await daemon.heard("nats-server is down")
    assert (told["reason"], told["level"]) == ("nats-server was ended by signal 9", "error")
    assert (await health_where(daemon, well))["bus"]["restarts"] == 1
    assert (await daemon.heard("nats-server is back"))["restarts"] == 1
    await serves(daemon)


@pytest.mark.faults
async def test_hung(start_daemon: StartDaemon) -> None:
    daemon: Daemon = await start_daemon()
    await begin(daemon)
    (pid,) = nats_servers(daemon.data_dir)
    os.kill(pid, signal.SIGSTOP)
    shown = await health_where(daemon, down, 30)
    assert "nats-server does not answer its daemon" in shown["reasons"][0]
    await daemon.heard("nats-server is down")
    await health_where(daemon, well)
    assert pid not in nats_servers(daemon.data_dir)
    await serves(daemon)


@pytest.mark.faults
async def test_hung_when_the_daemon_is_told_to_end(start_daemon: StartDaemon) -> None:
    daemon: Daemon = await start_daemon()
    await begin(daemon)
    (pid,) = nats_servers(daemon.data_dir)
    os.kill(pid, signal.SIGSTOP)
    assert await daemon.stop() == 0
    await no_nats_server(daemon.data_dir)


@pytest.mark.faults
async def test_slow_to_start(start_daemon: StartDaemon, tmp_path: Path) -> None:
    server = script(
        tmp_path / "nats-server",
        f'case "$1" in --version|-t) ;; *) sleep 3;; esac\nexec {binary.find(None)} "$@"',
    )
    daemon: Daemon = await start_daemon("--nats-server", str(server))
    await begin(daemon)
    kill_nats_server(daemon.data_dir)
    await health_where(daemon, down)
    await health_where(daemon, well)
    await serves(daemon)


@pytest.mark.parametrize(
    "given", ["another program", *(pytest.param(x, marks=SLOWLY) for x in ("nothing", "an old server", "no program"))]
)
async def test_a_wrong_program_in_its_place_is_given_up_with_what_to_do(
    start_daemon: StartDaemon, tmp_path: Path, given: str
) -> None:
    path = tmp_path / "nats-server"
    daemon: Daemon = await start_daemon("--nats-server", str(real_server(path)))
    if given == "nothing":
        path.unlink()
    elif given == "no program":
        path.write_bytes(b"\x7fELF and nothing more")
    else:
        script(path, "echo nats-server: v2.9.1" if given == "an old server" else "echo something else")
    kill_nats_server(daemon.data_dir)
    shown = await health_where(daemon, lambda found: down(found) and "nats-server" in found["reasons"][0])
    assert shown["status"] == "degraded"
    assert await daemon.ended() == 1
    words = {"nothing": "cannot be run", "an old server": "is nats-server 2.9.1"}
    last = daemon.said.splitlines()[-1]
    assert last.startswith(f"unibus-membershipd: {path} {words.get(given, 'is not a nats-server')}")
    assert last.endswith("--nats-server")
    assert "Traceback" not in daemon.said
    refused = [entry for entry in daemon.log if entry["event"] == "nats-server does not come back"]
    assert len(refused) > 2, "it was tried again first"


async def test_a_program_that_is_replaced_is_waited_for(start_daemon: StartDaemon, tmp_path: Path) -> None:
    path = tmp_path / "nats-server"
    daemon: Daemon = await start_daemon("--nats-server", str(real_server(path)))
    await begin(daemon)
    script(path, "echo half of it")
    kill_nats_server(daemon.data_dir)
    assert "is not a nats-server" in str((await daemon.heard("nats-server does not come back"))["reason"])
    real_server(path)
    await health_where(daemon, well)
    await serves(daemon)


async def test_its_port_taken(start_daemon: StartDaemon) -> None:
    daemon: Daemon = await start_daemon()
    await begin(daemon)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        async with asyncio.timeout(WAIT):
            while not await taken(daemon, squatter):
                await health_where(daemon, well)
        shown = await health_where(daemon, lambda found: "address already in use" in found["reasons"][0])
        assert down(shown)
        assert "address already in use" in str((await daemon.heard("nats-server does not come back"))["reason"])
    await health_where(daemon, well)
    await serves(daemon)


async def taken(daemon: Daemon, squatter: socket.socket) -> bool:
    """Kill the server and take its port, unless the next one was faster."""
    kill_nats_server(daemon.data_dir)
    await health_where(daemon, down)
    try:
        squatter.bind(("127.0.0.1", daemon.nats_port))
    except OSError:
        return False
    squatter.listen()
    return True


def block(data_dir: Path) -> Path:
    """The file with the messages."""
    (found,) = (data_dir / "nats").rglob("*.blk")
    return found


def damage_the_beginning(data_dir: Path) -> None:
    with block(data_dir).open("r+b") as file:
        file.write(os.urandom(64))


def cut_off_half(data_dir: Path) -> None:
    path = block(data_dir)
    os.truncate(path, path.stat().st_size // 2)


def take_the_index_and_damage_the_middle(data_dir: Path) -> None:
    path = block(data_dir)
    path.with_name("index.db").unlink()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(64))


def remove_all(data_dir: Path) -> None:
    for path in sorted((data_dir / "nats").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        damage_the_beginning,
        cut_off_half,
        pytest.param(take_the_index_and_damage_the_middle, marks=SLOWLY),
        pytest.param(remove_all, marks=SLOWLY),
    ],
)
async def test_a_damaged_store_is_named_until_an_operator_has_dealt_with_it(
    start_daemon: StartDaemon, damage: Callable[[Path], None]
) -> None:
    """nats-server itself goes on as if nothing had been lost, and says so."""
    first: Daemon = await start_daemon()
    await begin(first)
    assert await first.stop() == 0
    damage(first.data_dir)
    for _ in range(2):  # a restart does not make it forgotten
        daemon: Daemon = await start_daemon()
        (reason,) = (await health(daemon))["reasons"]
        assert reason.startswith("acknowledged messages are lost: the store ")
        assert str(daemon.data_dir) not in reason, "anybody may ask"
        assert (await daemon.heard("messages are lost"))["level"] == "error"
        async with asyncio.timeout(WAIT), Place(daemon.url, daemon.data_dir).enter("ada") as ada:
            await (await ada.room("ops")).send("after the loss")
        assert await daemon.stop() == 0
    (first.data_dir / "messages-mark").unlink()
    assert well(await health(await start_daemon()))


async def test_what_damage_the_server_itself_mends_is_no_loss(start_daemon: StartDaemon) -> None:
    first: Daemon = await start_daemon()
    await begin(first)
    assert await first.stop() == 0
    stream = block(first.data_dir).parents[1]
    (stream / "meta.inf").write_bytes(os.urandom(64))
    (stream / "meta.sum").unlink()
    (stream / "msgs" / "index.db").write_bytes(os.urandom(64))
    daemon: Daemon = await start_daemon()
    assert well(await health(daemon))
    await serves(daemon)
