"""`unibus room` beyond who is in: roles, names, keys, what is kept, and a room's end."""

import re

import pytest

from tests.cli.commands import Person
from tests.cli.conftest import Newcomer

pytestmark = pytest.mark.slow


@pytest.fixture
def dee(newcomer: Newcomer, ada: Person, room: str) -> Person:
    """A member of the room, called dee-ROOM."""
    dee = newcomer("dee-" + room)
    ada.does("room", "add", room, "dee-" + room)
    return dee


def test_a_reader_reads_and_writes_no_more(ada: Person, dee: Person, room: str) -> None:
    assert ada.does("room", "role", room, f"dee-{room}", "reader") == f"dee-{room} is now reader in {room}\n"
    ada.does("send", room, "for readers")
    assert "for readers" in dee.does("tail", room, "--since", "start", "--count", "1")
    assert "may not" in dee.refused("send", room, "no") or "reader" in dee.refused("send", room, "no")
    assert ada.values("room", "role", room, f"dee-{room}", "owner")[0]["room"] == room
    assert dee.values("room", "show", room)[0]["members"] == {"ada": "owner", f"dee-{room}": "owner"}
    assert dee.does("send", room, "yes").startswith("sent ")


def test_a_name_and_a_key_change(ada: Person, dee: Person, room: str) -> None:
    assert ada.does("room", "rename", room, room + " anew") == f"{room} is now called {room} anew\n"
    assert dee.values("room", "show", room + " anew")[0]["name"] == room + " anew"
    assert ada.does("room", "rotate", room + " anew") == f"{room} anew has a new key\n"
    assert dee.values("room", "show", room + " anew")[0]["epoch"] == 2
    assert "owner" in dee.refused("room", "rename", room + " anew", "mine")


def test_what_a_room_keeps_is_said_and_done(ada: Person, dee: Person, room: str) -> None:
    for number in range(3):
        ada.does("send", room, f"{number}" * 50_000)
    said = ada.does("room", "retain", room, "--age", "30d", "--size", "64k")
    assert said == f"{room} keeps messages of the last 30d and up to 64k\n"
    (line,) = dee.does("tail", room, "--since", "start", "--count", "1").splitlines()
    assert line.endswith("2" * 50_000)
    assert ada.does("room", "retain", room) == f"{room} keeps all messages\n"
    assert "a duration is" in ada.refused("room", "retain", room, "--age", "long")
    assert "a size is" in ada.refused("room", "retain", room, "--size", "large")


def test_who_leaves_is_out_and_the_last_owner_names_another(ada: Person, dee: Person, room: str) -> None:
    assert ada.refused("room", "leave", room) == "the last owner names a successor on leaving, or archives the room"
    assert ada.does("room", "leave", room, "--successor", f"dee-{room}") == f"you are out of {room}\n"
    assert ada.refused("room", "show", room) == f"you are in no room called '{room}': see unibus room list"
    assert dee.values("room", "show", room)[0]["members"] == {f"dee-{room}": "owner"}


def test_an_archived_room_is_read_and_nothing_is_added(ada: Person, dee: Person, room: str) -> None:
    ada.does("send", room, "the last word")
    assert ada.does("room", "archive", room) == f"{room} is archived\n"
    assert dee.values("room", "show", room)[0]["state"] == "archived"
    assert "state    archived\n" in dee.does("room", "show", room)
    assert "archived" in dee.refused("send", room, "one more")
    assert "archived" in ada.refused("room", "add", room, "ada")
    assert "the last word" in dee.does("tail", room, "--since", "start", "--count", "1")


def test_what_revoked_people_alone_kept_is_freed_by_an_admin(ada: Person, newcomer: Newcomer, room: str) -> None:
    fay = newcomer("fay")
    (made,) = fay.values("room", "create", "fays")
    fay.does("send", "fays", "kept for nobody")
    fay.write("noise", "x" * 5000)
    fay.does("blob", "put", "fays", "noise")
    refused = "there is no such room without members on the bus"
    assert ada.refused("room", "purge", made["room"]) == refused
    assert fay.refused("room", "purge", made["room"]) == "only an admin may do this"
    ada.does("user", "revoke", "fay")
    noted = ada.values("audit")
    assert any(entry["action"] == "room.create" and made["room"] in str(entry["facts"]) for entry in noted)
    assert ada.does("room", "purge", made["room"]) == "its messages and blobs are gone; its records stay\n"
    last = ada.values("audit", "--since", str(noted[-1]["number"]))[0]
    assert (last["action"], last["target"], last["facts"]["messages"]) == ("room.purge", made["room"], 1)
    assert last["facts"]["blob_bytes"] >= 5000
    own = ada.values("room", "show", room)[0]["room"]
    assert ada.refused("room", "purge", own) == refused
    assert re.match("a room id is", ada.refused("room", "purge", room))
