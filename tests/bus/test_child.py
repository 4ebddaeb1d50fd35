"""The real nats-server process: killed, frozen, refused its port, orphaned; and what others see of it."""

import asyncio
import base64
import os
import signal
import socket
import stat
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.bus.stage import ROOM, Logbook, Member, Stage, TablePolicy, can_connect, eventually
from unibus.bus import launch
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.crypto.nkeys import SigningKey, encode_seed
from unibus.errors import StartRefused


def _server_pid(data_dir: Path) -> int:
    (ports,) = (data_dir / "run").glob("*.ports")
    return int(ports.stem.rpartition("_")[2])


def _all_bytes(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.rglob("*") if path.is_file()]


def _process_bytes(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


async def _freeze(pid: int) -> None:
    """Stop the process, and return when none of its threads runs any more: until then it still answers."""
    os.kill(pid, signal.SIGSTOP)
    await eventually(lambda: all(_state(task / "stat") == "T" for task in Path(f"/proc/{pid}/task").iterdir()))


def _state(stat_file: Path) -> str:
    return stat_file.read_text().rpartition(") ")[2][0]


def _is_there(pid: int) -> bool:
    """Whether the process runs: not gone, and not a zombie that nobody has waited for yet."""
    try:
        return _state(Path(f"/proc/{pid}/stat")) != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone before it was looked for, or while it was read
        return False


async def test_a_killed_server_comes_back_with_its_frames_and_its_callout(stage: Stage, tmp_path: Path) -> None:
    alice = stage.member(ROOM)
    port = stage.plane.client_port
    async with stage.connect(alice) as a:
        assert (await a.publish(data=b"acknowledged"))["seq"] == 1
        os.kill(_server_pid(tmp_path), signal.SIGKILL)
        await a.closed.wait()
    told = await stage.log.heard("nats-server is down")
    assert told["reason"] == "nats-server was ended by signal 9"
    await stage.log.heard("nats-server is back", restarts=1)
    assert stage.plane.client_port == port
    assert stage.plane.status()["ready"] is True
    async with stage.connect(alice) as again:
        assert await (await again.read()).bodies(1) == [b"acknowledged"]
    assert not await can_connect(stage, Member())


def _is_gone(pid: int) -> bool:
    return not _is_there(pid)


def _taken(squatter: socket.socket, port: int) -> bool:
    """Take the port, unless the next server was faster."""
    try:
        squatter.bind(("127.0.0.1", port))
    except OSError:
        return False
    squatter.listen()
    return True


async def test_while_the_server_is_down_the_status_says_why_and_effects_pass(stage: Stage, tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            await eventually(lambda: bool(stage.plane.status()["ready"]))
            pid = _server_pid(tmp_path)
            os.kill(pid, signal.SIGKILL)
            await eventually(partial(_is_gone, pid))
            if _taken(squatter, stage.plane.client_port):
                break
        told = await stage.log.heard("nats-server does not come back")
        assert "address already in use" in str(told["reason"])
        status = stage.plane.status()
        assert (status["ready"], status["jetstream"], status["listen"]) == (False, False, None)
        assert "address already in use" in str(status["reason"])
        await stage.plane.cut(Member().user)
        await stage.plane.withdraw(Member().user, ROOM)
        await stage.plane.announce([Member().user], "room.x", 1, "digest")
    await stage.log.heard("nats-server is back")


async def test_a_server_that_does_not_obey_a_revocation_is_killed(stage: Stage, tmp_path: Path) -> None:
    alice = stage.member(ROOM)
    async with stage.connect(alice) as a:
        pid = _server_pid(tmp_path)
        await _freeze(pid)
        del stage.policy.rooms[alice.user]
        await stage.plane.cut(alice.user)
        assert not _is_there(pid)
        await a.closed.wait()
    await stage.log.heard("nats-server is back")
    assert not await can_connect(stage, alice)


async def test_a_frozen_server_is_noticed_and_replaced(stage: Stage, tmp_path: Path) -> None:
    frozen = _server_pid(tmp_path)
    await _freeze(frozen)
    await stage.log.heard("nats-server is back", within=20)
    assert not _is_there(frozen)
    assert await can_connect(stage, stage.member(ROOM))


async def test_stop_leaves_no_process_and_can_be_started_again(tmp_path: Path) -> None:
    policy, alice = TablePolicy(), Member()
    policy.rooms[alice.user] = {ROOM}
    for sequence in (1, 2):
        log = Logbook()
        plane = BusPlane(BusOptions(tmp_path, port=0), policy, log.logger)
        await plane.start()
        try:
            async with Stage(plane, policy, log).connect(alice) as a:
                assert (await a.publish())["seq"] == sequence
            pid = _server_pid(tmp_path)
        finally:
            await plane.stop()
        assert not _is_there(pid)
        assert plane.status()["reason"] == "stopped"
        assert not [entry for entry in log.entries if entry["level"] == "error"]


async def test_a_port_in_use_refuses_the_start_by_name(tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        options = BusOptions(tmp_path, port=squatter.getsockname()[1])
        said = f"cannot listen on --nats-bind 127.0.0.1:{options.port}: address already in use; end what listens there"
        with pytest.raises(StartRefused, match=said):
            await BusPlane(options, TablePolicy(), Logbook().logger).start()


async def test_no_directory_name_breaks_out_of_the_configuration(tmp_path: Path) -> None:
    odd = tmp_path / 'we"ird $HOME \\ {listen: "0.0.0.0:1"} # é'
    odd.mkdir()
    plane = BusPlane(BusOptions(odd, port=0), TablePolicy(), Logbook().logger)
    await plane.start()
    await plane.stop()
    assert (odd / "nats" / "jetstream").is_dir()


async def test_a_data_directory_that_cannot_be_used_refuses_the_start(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(StartRefused, match=r"run cannot be made: file exists"):
        await BusPlane(BusOptions(tmp_path, port=0), TablePolicy(), Logbook().logger).start()


async def test_the_server_dies_with_a_daemon_that_is_killed(tmp_path: Path) -> None:
    daemon = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bus.lonely_daemon", str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert daemon.stdout is not None
    assert await daemon.stdout.readline() == b"ready\n"
    pid = _server_pid(tmp_path)
    assert _is_there(pid)
    daemon.kill()
    await daemon.wait()
    await eventually(lambda: not _is_there(pid))


async def test_no_secret_leaves_the_daemons_memory(tmp_path: Path) -> None:
    secrets: list[bytes] = []

    def random(count: int) -> bytes:
        secrets.append(os.urandom(count))
        return secrets[-1]

    plane = BusPlane(BusOptions(tmp_path, port=0), TablePolicy(), Logbook().logger, random=random)
    await plane.start()
    try:
        pid = _server_pid(tmp_path)
        config = tmp_path / "run" / "nats-server.conf"
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
        seen = _all_bytes(tmp_path) + [_process_bytes(pid, name) for name in ("cmdline", "environ")]
    finally:
        await plane.stop()
    keys = [secret for secret in secrets if len(secret) == 32]
    assert len(keys) == 5
    for key in keys:
        written = [encode_seed(kind, key) for kind in "UAX"] + [key.hex(), base64.b64encode(key).decode()]
        assert not [text for text in [key, *map(str.encode, written)] for data in seen if text in data]
    assert SigningKey.from_seed(keys[0], "A").public.encode() in b"".join(seen), "the search would find the public half"


async def test_the_start_is_quick(tmp_path: Path) -> None:
    plane = BusPlane(BusOptions(tmp_path, port=0), TablePolicy(), Logbook().logger)
    began = time.monotonic()
    await plane.start()
    await plane.stop()
    assert time.monotonic() - began < 5


async def test_what_runs_is_read_back(stage: Stage) -> None:
    status = stage.plane.status()
    assert status["listen"] == f"127.0.0.1:{stage.plane.client_port}"
    assert (status["ready"], status["jetstream"], status["durable"], status["auth"]) == (True, True, True, "enforce")
    assert str(status["version"]).startswith("2.")


async def test_launch_refuses_when_its_daemon_is_gone() -> None:
    """What the child does when its parent died before it could ask to die with it."""
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", launch.__file__, "1", "/bin/true"), stderr=asyncio.subprocess.PIPE
    )
    _, said = await launcher.communicate()
    assert (launcher.returncode, said) == (1, b"the daemon that wanted nats-server is gone\n")
