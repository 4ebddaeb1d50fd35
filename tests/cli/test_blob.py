"""`unibus blob` as a person types it: put, list, get, rm, and what is refused."""

import os
from pathlib import Path

import pytest

from tests.cli.commands import Person
from tests.cli.conftest import Newcomer


@pytest.fixture
def bob(newcomer: Newcomer, ada: Person, room: str) -> Person:
    """A member of the room."""
    handle = "bob-" + room
    bob = newcomer(handle)
    ada.does("room", "add", room, handle)
    return bob


def test_a_file_goes_from_one_to_another(ada: Person, bob: Person, room: str) -> None:
    data = os.urandom(200_000)
    ada.write("report.pdf", data)
    stored, line = ada.does("blob", "put", room, "report.pdf", "--type", "application/pdf").splitlines()
    assert stored == "stored report.pdf"
    blob = line.removeprefix("  id  ")
    head, row = bob.does("blob", "list", room).splitlines()
    assert head.split() == ["name", "bytes", "from", "stored", "id"]
    assert [*row.split()[:3], row.split()[-1]] == ["report.pdf", "200000", "ada", blob]
    (facts,) = bob.values("blob", "list", room)
    assert (facts["blob"], facts["bytes"], facts["type"], facts["handle"]) == (blob, 200000, "application/pdf", "ada")
    assert bob.does("blob", "get", room, "report.pdf") == "fetched report.pdf, 200000 bytes, from ada\n"
    assert (bob.home / "report.pdf").read_bytes() == data
    assert bob.values("blob", "get", room, blob, "again")[0]["path"] == "again"
    assert (bob.home / "again").read_bytes() == data
    assert "already" in bob.refused("blob", "get", room, blob)
    assert "only who stored a blob" in bob.refused("blob", "rm", room, blob)
    assert ada.does("blob", "rm", room, "report.pdf") == f"deleted {blob}\n"
    assert "no such blob" in bob.refused("blob", "get", room, blob, "third")
    assert not list(ada.home.glob(".config/unibus/*.uploads/*"))


def test_standard_input_has_to_be_given_a_name(ada: Person, bob: Person, room: str) -> None:
    assert "--name" in ada.refused("blob", "put", room, "-", stdin=b"x", status=2)
    ada.does("blob", "put", room, "-", "--name", "said", stdin=b"hello\n")
    bob.does("blob", "get", room, "said", "here")
    assert (bob.home / "here").read_bytes() == b"hello\n"


def test_a_name_chosen_by_another_makes_no_hidden_file(ada: Person, room: str) -> None:
    for name in (".profile", "-rf", "~root"):
        ada.does("blob", "put", room, "-", f"--name={name}", stdin=b"x")
    for facts in ada.values("blob", "list", room):
        assert "say where to write it" in ada.refused("blob", "get", room, facts["blob"])
    ada.does("blob", "get", room, "--", "-rf", "plain")
    assert (ada.home / "plain").read_bytes() == b"x"


def test_what_is_no_name_is_refused(ada: Person, room: str) -> None:
    for name in ("../x", "", "\x1b[2J"):
        assert "a blob's name is" in ada.refused("blob", "put", room, "-", f"--name={name}", stdin=b"x")


def test_a_name_that_is_not_unique_asks_for_an_id(ada: Person, room: str) -> None:
    for _ in range(2):
        ada.does("blob", "put", room, "-", "--name", "twice", stdin=b"x")
    assert "several blobs are called 'twice'" in ada.refused("blob", "get", room, "twice")
    assert "no blob 'nothing'" in ada.refused("blob", "get", room, "nothing")


def test_what_is_no_file_is_refused(ada: Person, room: str) -> None:
    assert "cannot read missing" in ada.refused("blob", "put", room, "missing")
    for path in (".", "/dev/null"):
        assert f"{path} is not a file" in ada.refused("blob", "put", room, path, "--name", "x")
    assert ". is not a file" in ada.refused("blob", "put", room, ".")


def test_a_directory_takes_the_name(ada: Person, bob: Person, room: str) -> None:
    ada.does("blob", "put", room, "-", "--name", "inside", stdin=b"x")
    (bob.home / "there").mkdir()
    bob.does("blob", "get", room, "inside", "there")
    assert Path(bob.home / "there" / "inside").read_bytes() == b"x"


def test_an_id_that_begins_with_a_dash_is_no_option(ada: Person, room: str) -> None:
    blob = "-" + "h" * 41 + "A"
    for arguments in (["get", room, blob], ["get", room, blob, "here"], ["rm", room, blob], ["rm", room, "id:" + blob]):
        assert "there is no such blob" in ada.refused("blob", *arguments)
