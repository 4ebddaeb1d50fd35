"""From a daemon's greeting to the first admin, and all that can be wrong on the way."""

import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import UNIBUS, Person, Town


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Town]:
    """A daemon whose bus nobody has founded."""
    home = tmp_path / "host"
    home.mkdir()
    town = Town(home)
    try:
        yield town
    finally:
        town.end()


def test_the_command_in_the_greeting_works_as_it_stands(fresh: Town, tmp_path: Path) -> None:
    command = shlex.split(fresh.greeting[-1].replace("YOUR-HANDLE", "ada"))
    assert fresh.greeting[-2] == "this bus has no users yet. become its first admin, in another terminal:"
    assert Path(command[0]) == UNIBUS
    ada = Person(tmp_path / "host")
    said = ada.does(*command[1:]).splitlines()
    assert said[0].startswith("you are ada, the first admin of bus ")
    assert said[1:] == [
        f"  identity  {ada.identity}",
        "  next      unibus user add HANDLE CARD, unibus room create NAME",
    ]
    assert not (fresh.data_dir / "bootstrap-token").exists()


def test_a_token_is_good_once(fresh: Town, tmp_path: Path) -> None:
    ada, eve = Person(tmp_path / "ada", fresh.url), Person(tmp_path / "eve", fresh.url)
    token = (fresh.data_dir / "bootstrap-token").read_text()
    (founded,) = ada.values("init", "ada", "--token-file", "-", stdin=token.encode())
    assert founded["handle"] == "ada"
    assert eve.refused("init", "eve", "--token-file", "-", stdin=token.encode()) == (
        "the bootstrap token is wrong or was already used"
    )
    assert [user["handle"] for user in ada.values("user", "list")] == ["ada"]


def test_what_is_not_the_token_is_refused(fresh: Town, tmp_path: Path) -> None:
    eve = Person(tmp_path / "eve", fresh.url)
    assert eve.refused("init", "eve", "--token-file", "-", stdin=b"A" * 43) == (
        "the bootstrap token is wrong or was already used"
    )
    assert eve.refused("init", "eve", "--token-file", "-") == "the bootstrap token in - is empty"
    assert eve.refused("init", "eve") == (
        "cannot read the bootstrap token local_files/bootstrap-token: the daemon keeps it in its data directory until "
        "the bus has its first admin; name it with --token-file"
    )
    eve.write("token", b"\xff\xfe")
    assert eve.refused("init", "eve", "--token-file", "token").startswith("cannot read the bootstrap token token: ")
    assert (fresh.data_dir / "bootstrap-token").exists()


def test_a_bus_without_users_says_who_begins(fresh: Town, tmp_path: Path) -> None:
    eve = Person(tmp_path / "eve", fresh.url)
    eve.does("identity", "new")
    assert eve.refused("room", "list") == "this bus has no users yet: its operator begins with unibus init"


@pytest.mark.parametrize("handle", ["Ada", "аda", "", "-ada", "ada\x1b[31m", "a" * 33])
def test_what_is_no_handle_is_refused_before_anything_is_made(tmp_path: Path, handle: str) -> None:
    eve = Person(tmp_path / "eve")
    said = eve.refused("init", "--", handle)
    assert said == "a handle is 1 to 32 of a-z 0-9 . _ - and starts with a letter or a digit"
    assert not eve.identity.exists()


def test_no_daemon_is_one_line_and_soon(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody else gets the port, and nobody answers
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        eve = Person(tmp_path / "eve", url)
        eve.does("identity", "new")
        begun = time.monotonic()
        for command in (["health"], ["room", "list"]):
            assert eve.refused(*command) == (
                f"cannot reach {url}: connection refused; is the daemon (unibus-membershipd) running there?"
            )
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8470",
        "ftp://host:8470",
        "http://user@host:8470",
        "http://:word@host:8470",
        "http://host:8470/v1",
        "http://host:99999",
        "\x1b[31m",
    ],
)
def test_what_is_no_address_is_refused_by_name(tmp_path: Path, url: str) -> None:
    eve = Person(tmp_path / "eve")
    said = eve.refused("--url", url, "health")
    assert said.startswith(("the URL of a daemon looks like http://host:8470, not ", "not a URL: "))
    assert "\x1b" not in said


def test_an_address_of_something_else_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        eve = Person(tmp_path / "eve", f"http://127.0.0.1:{server.getsockname()[1]}")
        process = eve.start("health")
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"\x1b]0;owned\x07 I am not a web server\r\n\r\n")
            ran = eve.end(process)
    assert ran.status == 1
    assert ran.err.startswith(f"unibus: cannot reach {eve.environment['UNIBUS_URL']}: ")
    assert "\x1b" not in ran.err
    assert len(ran.err.splitlines()) == 1


def test_another_bus_at_a_known_address_is_noticed(fresh: Town, ada: Person, tmp_path: Path) -> None:
    eve = Person(tmp_path / "eve", fresh.url)
    eve.does("init", "eve", "--token-file", str(fresh.data_dir / "bootstrap-token"))
    eve.environment["UNIBUS_URL"] = ada.environment["UNIBUS_URL"]
    said = eve.refused("room", "list")
    assert said.startswith("this daemon serves the bus ")
    assert "for a second bus use another identity" in said
