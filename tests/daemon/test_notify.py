"""What a service manager hears from the daemon: over a real socket, in the words of sd_notify(3)."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, refused, spawn
from tests.support.processes import WAIT, kill_nats_server, nats_servers
from unibus.daemon.main import status
from unibus.daemon.notify import STUCK_AFTER, Manager, Pulse, address, message, watchdog_interval

UP = {"up": True, "ready": True, "restarts": 0, "auth": "enforce", "reason": None}
DOWN = {"up": False, "ready": False, "restarts": 0, "auth": "enforce", "reason": "nats-server ended"}


class Listener:
    """A service manager's end of the socket."""

    def __init__(self, where: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(where)
        self.socket.setblocking(False)

    async def hear(self) -> dict[str, str]:
        """The next message's fields."""
        async with asyncio.timeout(WAIT):
            said = await asyncio.get_running_loop().sock_recv(self.socket, 4096)
        return dict(line.split("=", 1) for line in said.decode().split("\n"))

    async def hear_of(self, field: str) -> str:
        """The value of `field` in the next message that has it."""
        while field not in (fields := await self.hear()):
            pass
        return fields[field]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Where a daemon keeps its data."""
    return tmp_path / "data"


@pytest.fixture(params=["path", "abstract"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A NOTIFY_SOCKET of either kind."""
    return str(tmp_path / "notify") if request.param == "path" else f"@unibus-test-{os.getpid()}-{tmp_path.name}"


@pytest.fixture
def listener(where: str) -> Iterator[Listener]:
    """Somebody who listens there."""
    found = address(where)
    assert found is not None
    listening = Listener(found)
    yield listening
    listening.socket.close()


def test_a_status_brings_no_field_of_its_own() -> None:
    evil = "down\nMAINPID=1\r\nREADY=1\x00\u2028\x85FDSTORE=1\x1b[2J"
    lines = message({"STATUS": evil, "WATCHDOG": "1"}).split(b"\n")
    assert lines == [b"STATUS=down MAINPID=1  READY=1   FDSTORE=1 [2J", b"WATCHDOG=1"]
    assert len(message({"STATUS": "x" * 100_000})) < 300


@pytest.mark.parametrize(
    ("name", "found"),
    [("/run/notify", "/run/notify"), ("@a/b", "\0a/b"), ("", None), ("relative", None), ("vsock:2:1234", None)],
)
def test_only_paths_and_abstract_names_are_sockets(name: str, found: str | None) -> None:
    assert address(name) == found


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked_and_by_whom_it_is_asked(
    variables: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_interval(variables, 7) == seconds


def test_a_bus_that_is_down_starves_nobody_while_it_is_tried_again() -> None:
    pulse, now = Pulse(0.0), 0.0
    for tries in range(1, 100):
        now += STUCK_AFTER - 1.0
        pulse = pulse.after(DOWN | {"restarts": tries}, now)
        assert pulse.alive(now)


def test_a_bus_that_nobody_cares_for_starves_the_watchdog() -> None:
    pulse = Pulse(0.0).after(UP, 10.0)
    for now in (20.0, 10.0 + STUCK_AFTER - 0.1):
        pulse = pulse.after(DOWN, now)
        assert pulse.alive(now)
    late = 10.0 + STUCK_AFTER
    assert not pulse.after(DOWN, late).alive(late)
    assert pulse.after(DOWN, late).after(UP, late).alive(late)


async def test_it_tells_the_status_and_feeds_only_while_there_is_a_pulse(where: str, listener: Listener) -> None:
    manager = Manager({"NOTIFY_SOCKET": where, "WATCHDOG_USEC": "20000"}, os.getpid())
    bus, now = dict(UP), 0.0
    telling = asyncio.create_task(
        manager.keep_informed(lambda: bus, lambda seen: status("http here", seen), lambda: now)
    )
    try:
        assert await listener.hear() == {"STATUS": "http here, bus-auth enforce", "WATCHDOG": "1"}
        bus |= DOWN
        assert "WATCHDOG" in await listener.hear()
        now = STUCK_AFTER
        while "WATCHDOG" in (heard := await listener.hear()):
            pass
        assert heard == {"STATUS": "http here, bus-auth enforce; the bus is down: nats-server ended"}
        bus["restarts"] = 1
        assert await listener.hear_of("WATCHDOG") == "1"
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


async def test_nobody_to_tell_is_no_trouble(tmp_path: Path) -> None:
    for nowhere in ("", "relative", str(tmp_path / "nobody"), f"@unibus-nobody-{os.getpid()}", "/" + "x" * 200):
        Manager({"NOTIFY_SOCKET": nowhere}, os.getpid()).tell(READY="1")


async def test_a_manager_that_does_not_listen_is_not_waited_for(where: str, listener: Listener) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood:
        flood.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:  # until its queue is full
                flood.sendto(b"READY=1", listener.socket.getsockname())
    before = time.monotonic()
    Manager({"NOTIFY_SOCKET": where}, os.getpid()).tell(WATCHDOG="1")
    assert time.monotonic() - before < 2.0


@pytest.fixture
async def daemon(data_dir: Path, where: str, listener: Listener) -> AsyncIterator[Daemon]:
    """A daemon that somebody listens to, who wants to hear from it every 0.2 s."""
    found = Daemon(await spawn(data_dir, NOTIFY_SOCKET=where, WATCHDOG_USEC="200000"), data_dir)
    assert await listener.hear() == {"READY": "1"}
    await found.ready()
    yield found
    if found.process.returncode is None:
        await found.kill()


async def test_a_daemon_tells_its_whole_life(daemon: Daemon, data_dir: Path, listener: Listener) -> None:
    assert await listener.hear_of("STATUS") == (
        f"http 127.0.0.1:{daemon.http_port}, nats 127.0.0.1:{daemon.nats_port}, bus-auth enforce"
    )
    daemon.process.send_signal(signal.SIGHUP)
    assert int(await listener.hear_of("MONOTONIC_USEC")) > 0
    assert await listener.hear_of("READY") == "1"
    kill_nats_server(data_dir)
    while "the bus is down: nats-server was ended by signal 9" not in await listener.hear_of("STATUS"):
        pass
    while "the bus is down" in await listener.hear_of("STATUS"):
        pass
    assert await listener.hear_of("WATCHDOG") == "1"
    daemon.process.send_signal(signal.SIGTERM)
    assert await listener.hear_of("STOPPING") == "1"
    assert await daemon.ended() == 0
    assert nats_servers(data_dir) == []


async def test_a_refused_start_says_why(data_dir: Path, where: str, listener: Listener) -> None:
    status_code, _ = await refused(data_dir, "--http-bind", "nonsense", NOTIFY_SOCKET=where)
    assert status_code == 1
    assert "--http-bind takes HOST:PORT" in await listener.hear_of("STATUS")
