"""The daemon as a process: how it starts, what it refuses in one line, and how it ends."""

import asyncio
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.builders import identity
from tests.e2e.conftest import StartDaemon
from tests.support.daemon import refused
from tests.support.people import WAIT, Place
from tests.support.processes import nats_servers
from unibus.client.founding import found_bus
from unibus.daemon.options import parse_bind
from unibus.errors import BootstrapRefused, StartRefused

ADA, EVE = identity("ada"), identity("eve")


def last_line(said: str) -> str:
    """What a person is told: after the log, one line of the program's, and never a traceback."""
    assert "Traceback" not in said
    *log, last = said.splitlines()
    assert all(line.startswith("{") for line in log), said
    assert last.startswith("unibus-membershipd: ")
    return last


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


def files(directory: Path) -> list[Path]:
    """What stands in a directory."""
    return list(directory.iterdir())


async def test_the_bootstrap_token_is_private_works_once_and_is_gone_after(
    start_daemon: StartDaemon, data_dir: Path
) -> None:
    daemon = await start_daemon()
    token = data_dir / "bootstrap-token"
    assert (mode(token), mode(data_dir)) == (0o600, 0o700)
    secret = Place(daemon.url, data_dir).token
    for wrong in ("", "x", secret[:-1], secret + "x"):
        with pytest.raises(BootstrapRefused):
            await found_bus(daemon.url, EVE, wrong, "eve")
    await found_bus(daemon.url, ADA, secret, "ada")
    assert token not in files(data_dir)
    with pytest.raises(BootstrapRefused):
        await found_bus(daemon.url, EVE, secret, "eve")
    assert await daemon.stop() == 0
    again = await start_daemon()
    assert token not in files(data_dir)
    with pytest.raises(BootstrapRefused):
        await found_bus(again.url, EVE, secret, "eve")
    assert secret not in str(daemon.log) + str(again.log)


async def test_of_two_founders_with_the_token_one_is_first(start_daemon: StartDaemon, data_dir: Path) -> None:
    place = Place((await start_daemon()).url, data_dir)
    founders = [found_bus(place.url, identity(name), place.token, name) for name in ("ada", "eve", "bob")]
    outcomes = await asyncio.gather(*founders, return_exceptions=True)
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
async def test_a_signal_ends_it_well_and_leaves_no_child(
    start_daemon: StartDaemon, data_dir: Path, number: signal.Signals
) -> None:
    daemon = await start_daemon()
    await Place(daemon.url, data_dir).found("bob")
    async with asyncio.timeout(WAIT), Place(daemon.url, data_dir).enter("ada") as ada:
        await (await ada.create_room("ops")).send("a live connection")
        daemon.process.send_signal(number)
        assert await daemon.ended() == 0
    assert nats_servers(data_dir) == []
    assert not [entry for entry in daemon.log if entry["level"] in {"error", "critical"}]


async def test_what_was_acknowledged_is_there_after_a_restart(start_daemon: StartDaemon, data_dir: Path) -> None:
    daemon = await start_daemon()
    place = Place(daemon.url, data_dir)
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        position = await (await ada.create_room("ops")).send("kept")
    await daemon.kill()
    place = Place((await start_daemon()).url, data_dir)
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        assert [user.handle for user in await ada.users()] == ["ada", "bob"]
        async for message in (await ada.room("ops")).messages("start"):
            assert (message.text, message.position) == ("kept", position)
            break


async def test_a_second_daemon_on_the_same_data_is_refused(start_daemon: StartDaemon, data_dir: Path) -> None:
    daemon = await start_daemon()
    status, said = await refused(data_dir)
    assert status == 1
    assert f"process {daemon.process.pid}" in last_line(said)
    assert "--data-dir" in said
    assert len(nats_servers(data_dir)) == 1
    assert daemon.process.returncode is None


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        ("--kv-replicas", "3", "--kv-replicas is for --store kv"),
        ("--routes", "nats://elsewhere:6250", "--routes is for a cluster: name it with --cluster-name"),
        ("--http-bind", "nonsense", "--http-bind takes HOST:PORT"),
        ("--http-bind", "192.0.2.1:0", "--http-bind 192.0.2.1:0: cannot assign requested address; name another"),
        ("--http-bind", "no.such.host.invalid:0", "cannot listen on --http-bind no.such.host.invalid:0"),
        ("--nats-bind", "192.0.2.1:0", "--nats-bind 192.0.2.1:0: cannot assign requested address; name another"),
        ("--nats-server", "/nowhere/nats-server", "/nowhere/nats-server"),
        (
            "--data-dir",
            "/proc/nowhere",
            "/proc/nowhere: no such file or directory; make it this user's own",
        ),
    ],
)
async def test_what_cannot_be_is_refused_by_name(data_dir: Path, flag: str, value: str, words: str) -> None:
    status, said = await refused(data_dir, flag, value)
    assert status == 1
    assert words in last_line(said)
    assert nats_servers(data_dir) == []


async def test_a_variable_is_as_good_as_a_flag(data_dir: Path) -> None:
    status, said = await refused(data_dir, UNIBUS_ROUTES="nats://elsewhere:6250")
    assert status == 1
    assert "--routes is for a cluster" in last_line(said)


@pytest.mark.parametrize(
    "text", ["", ":", "8470", "127.0.0.1", ":8470", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:²"]
)
def test_an_address_of_another_form_is_refused_by_its_flag(text: str) -> None:
    with pytest.raises(StartRefused, match=r"--nats-bind takes HOST:PORT, such as 0\.0\.0\.0:8470"):
        parse_bind(text, "--nats-bind")


async def test_a_mode_that_is_none_is_refused(data_dir: Path) -> None:
    status, said = await refused(data_dir, "--bus-auth", "perhaps")
    assert status == 2
    assert "enforce" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("flag", ["--http-bind", "--nats-bind"])
async def test_a_port_that_is_taken_is_named(data_dir: Path, flag: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        status, said = await refused(data_dir, flag, where)
    assert status == 1
    last = last_line(said)
    assert last.endswith(f"{flag} {where}: address already in use; end what listens there, or name another")
    assert nats_servers(data_dir) == []


@pytest.fixture
def spoiled(data_dir: Path) -> Path:
    """A data directory whose store is none."""
    data_dir.mkdir()
    (data_dir / "unibus.sqlite3").write_bytes(b"this is no database " * 500)
    return data_dir


async def test_a_store_that_is_none_is_named(spoiled: Path) -> None:
    status, said = await refused(spoiled)
    assert status == 1
    assert "unibus.sqlite3" in last_line(said) or "store" in last_line(said)
    assert nats_servers(spoiled) == []
