"""`unibus user` and `unibus room`: what they show, and what they refuse."""

import pytest

from tests.cli.commands import Person
from tests.cli.conftest import Newcomer


def card(person: Person) -> str:
    return person.does("identity", "show", "--card").strip()


def test_a_user_comes_and_is_listed(ada: Person, stranger: Person) -> None:
    stranger.does("identity", "new")
    stranger.write("me.card", card(stranger))
    user = stranger.values("identity", "show")[0]["user"]
    bus = ada.values("identity", "show")[0]["bus"]
    said = ada.does("user", "add", "grace-u", "-", stdin=card(stranger).encode()).splitlines()
    assert said == [
        "grace-u is on the bus, as member",
        f"  user  {user}",
        f"  bus   {bus}, for grace-u to compare at the first contact",
    ]
    shown = ada.does("user", "list").splitlines()
    assert shown[0].split() == ["handle", "role", "user"]
    assert ["grace-u", "member", user] in [line.split() for line in shown]
    first = stranger.run("room", "list")
    assert first.err == (
        f"this is bus {bus}, seen for the first time: compare it with what an admin sees in unibus identity show\n"
    )
    assert first.out.split() == ["name", "members", "history", "state", "id"]
    assert stranger.does("identity", "show").splitlines()[2] == f"bus   {bus}"


def test_whoever_is_not_on_the_bus_learns_how_to_get_there(stranger: Person) -> None:
    stranger.does("identity", "new")
    assert stranger.refused("room", "list") == (
        "this identity is not on the bus, or no longer: give the output of unibus identity show --card to an admin, "
        "for unibus user add"
    )


def test_a_member_may_not_let_others_in(newcomer: Newcomer, stranger: Person) -> None:
    grace = newcomer("grace-m")
    stranger.does("identity", "new")
    assert "admin" in grace.refused("user", "add", "eve", card(stranger))
    assert "admin" in grace.refused("user", "revoke", "ada")


@pytest.mark.parametrize("handle", ["Eve", "еve", "../ada", "ada\u202e"])
def test_a_handle_out_of_grammar_is_refused(ada: Person, stranger: Person, handle: str) -> None:
    stranger.does("identity", "new")
    said = ada.refused("user", "add", "--", handle, card(stranger))
    assert said == "a handle is 1 to 32 of a-z 0-9 . _ - and starts with a letter or a digit"


def test_a_handle_or_an_identity_that_is_taken_is_refused(ada: Person, newcomer: Newcomer, stranger: Person) -> None:
    grace = newcomer("grace-t")
    stranger.does("identity", "new")
    assert "grace-t" in ada.refused("user", "add", "grace-t", card(stranger))
    assert ada.refused("user", "add", "grace-again", card(grace))


def test_what_is_no_card_is_refused(ada: Person, stranger: Person) -> None:
    stranger.does("identity", "new")
    good = card(stranger)
    middle = len(good) // 2
    damaged = good[:middle] + ("A" if good[middle] != "A" else "B") + good[middle + 1 :]
    ada.write("seed.card", stranger.identity.read_bytes())
    for wrong in (damaged, good[:-1], good + "A", "seed.card"):
        assert ada.refused("user", "add", "eve", wrong).startswith("this is not a whole identity card: "), wrong
    for wrong in ("none.card", ".", "x" * 5000):
        said = ada.refused("user", "add", "eve", wrong)
        assert said.endswith("is neither a card nor a file with one: it is what unibus identity show --card prints")
    ada.write("binary.card", b"\xff\x00\xfe")
    assert "neither a card" in ada.refused("user", "add", "eve", "binary.card")
    assert "eve" not in ada.does("user", "list")


def test_a_revoked_user_is_off_at_once(ada: Person, newcomer: Newcomer) -> None:
    grace = newcomer("grace-r")
    grace.does("room", "list")
    assert ada.does("user", "revoke", "grace-r") == (
        "grace-r is off the bus; each room they were in changes its key before the next message\n"
    )
    assert grace.refused("room", "list").endswith("for unibus user add")
    assert ada.refused("user", "revoke", "grace-r") == "there is no user 'grace-r': see unibus user list"


def test_a_room_from_its_making_to_a_removal(ada: Person, newcomer: Newcomer) -> None:
    newcomer("grace-o")
    made = ada.does("room", "create", "ops").splitlines()
    assert made[0] == "made room ops"
    room = made[1].removeprefix("  id  ")
    assert ada.does("room", "add", "ops", "grace-o", "--role", "reader") == "grace-o is in ops, as reader\n"
    assert ada.does("room", "show", room).splitlines() == [
        "name     ops",
        f"room     {room}",
        "state    open",
        "history  shared",
        "epoch    1",
        "records  2",
        "",
        "member   role",
        "ada      owner",
        "grace-o  reader",
    ]
    (facts,) = ada.values("room", "show", "ops")
    assert (facts["room"], facts["members"]) == (room, {"ada": "owner", "grace-o": "reader"})
    assert room in {found["room"] for found in ada.values("room", "list")}
    assert ada.does("room", "remove", "ops", "grace-o") == "grace-o is out of ops; the key is now of epoch 2\n"
    assert ada.refused("room", "remove", "ops", "grace-o") == "'grace-o' is not in this room: see unibus room show"


def test_rooms_and_users_that_are_not_there(ada: Person, room: str, newcomer: Newcomer) -> None:
    grace = newcomer("grace-n")
    for command in (["show"], ["add", "ada"], ["remove", "ada"]):
        said = grace.refused("room", command[0], room, *command[1:])
        assert said == f"you are in no room called '{room}': see unibus room list"
    assert ada.refused("room", "add", room, "nobody") == "there is no user 'nobody': see unibus user list"
    assert ada.refused("send", "\x1b[2J", "x") == "you are in no room called '\\x1b[2J': see unibus room list"


def test_an_ambiguous_room_is_named_by_its_id(ada: Person) -> None:
    ids = [ada.values("room", "create", "twins", "--same-name")[0]["room"] for _ in range(2)]
    said = ada.refused("send", "twins", "which?")
    assert said.startswith("several rooms are called 'twins': name one by its id, of ")
    assert all(room in said for room in ids)
    assert ada.does("send", ids[0], "this one").startswith("sent ")
    assert ada.does("tail", ids[0], "--since", "start", "--count", "1").endswith("  ada  this one\n")


def test_a_second_room_of_one_name_has_to_be_asked_for(ada: Person, room: str) -> None:
    id_ = ada.values("room", "show", room)[0]["room"]
    taken = (
        f"you are in a room called {room!r} already, {id_}: take another name, archive or rename that room, or say "
        "--same-name and name both by their ids from then on"
    )
    assert ada.refused("room", "create", room) == taken
    other = ada.values("room", "create", f"not-{room}")[0]["room"]
    assert ada.refused("room", "rename", other, room) == taken
    assert ada.does("room", "rename", room, room) == f"{room} is now called {room}\n"  # its own
    ada.does("room", "rename", other, room, "--same-name")
    assert ada.refused("room", "show", room).startswith(f"several rooms are called {room!r}")


def test_a_name_is_that_of_the_room_which_is_not_archived(ada: Person, room: str) -> None:
    old = ada.values("room", "show", room)[0]["room"]
    ada.does("room", "archive", room)
    assert ada.values("room", "show", room)[0]["room"] == old  # while there is no other
    new = ada.values("room", "create", room)[0]["room"]
    assert ada.values("room", "show", room)[0]["room"] == new
    assert ada.values("room", "show", old)[0]["state"] == "archived"


@pytest.mark.parametrize("name", ["", "\x1b[31mops", "ops\u202e", "o\u0301ps"])
def test_a_room_name_that_cannot_be_shown_is_refused(ada: Person, name: str) -> None:
    assert ada.refused("room", "create", name) == "a room's name is 1 to 64 printable characters without outer blanks"


def test_health_is_a_table_or_json(stranger: Person) -> None:
    rows = dict(line.split("  ", 1) for line in stranger.does("health").splitlines())
    assert rows["status"].strip() == "ok"
    (found,) = stranger.values("health")
    assert (found["status"], found["acl"]) == ("ok", True)
