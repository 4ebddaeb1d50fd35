"""What an identity signs: records that the reducers take, with keys sealed to exactly whom they are for."""

import pytest

from tests.builders import identity, user
from tests.client.world import World
from unibus.client.changes import Change, genesis_bus
from unibus.crypto.roomkey import EpochRef, commitment, follow_link, open_sealed
from unibus.errors import InvalidInput, MalformedRecord, RuleBroken, SealedKeyInvalid, WrongBus
from unibus.model.bodies import History
from unibus.model.directory import Directory
from unibus.model.room import Room


@pytest.fixture
def world() -> World:
    world = World()
    world.admit("bob", "cyd", "dan")
    return world


def opened(world: World, room: str, change: Change) -> dict[str, bytes]:
    """What the recipients of a change find in their sealed keys, by name."""
    names = {user(name): name for name in ("ada", "bob", "cyd", "dan")}
    state = world.rooms[room]
    return {
        names[to]: open_sealed(identity(names[to]), sealed, state.epoch_ref(state.epoch.number), state.epoch.commitment)
        for to, sealed in change.sealed.items()
    }


def test_the_founder_is_the_first_admin_of_the_bus_that_the_record_makes(world: World) -> None:
    assert genesis_bus(world.logs["directory"][0]) == world.bus
    assert world.directory.is_admin(user("ada"))


@pytest.mark.parametrize("record", [b"", b"a.b.c", b"not a record"])
def test_what_is_no_record_makes_no_bus(record: bytes) -> None:
    with pytest.raises(MalformedRecord):
        genesis_bus(record)


def test_a_later_record_makes_no_bus(world: World) -> None:
    with pytest.raises(WrongBus):
        genesis_bus(world.logs["directory"][1])


def test_a_rooms_first_key_is_its_owners_alone(world: World) -> None:
    room = world.create()
    assert [to for log, to in world.sealed if log == f"room/{room}"] == [user("ada")]
    assert world.rooms[room].epochs[1].previous is None


def test_two_rooms_share_no_key_and_no_id(world: World) -> None:
    one, two = world.create(), world.create()
    assert one != two
    assert world.key(one) != world.key(two)


def test_with_shared_history_an_addition_hands_on_the_current_key(world: World) -> None:
    room = world.create()
    key = world.key(room)
    change = world.add(room, "bob")
    assert change.epoch is None
    assert opened(world, room, change) == {"bob": key}


def test_with_history_since_join_an_addition_starts_an_epoch_for_all_that_leads_nowhere_back(world: World) -> None:
    room = world.create(history="since-join")
    before = world.key(room)
    change = world.add(room, "bob")
    key = world.key(room)
    assert key != before
    assert opened(world, room, change) == {"ada": key, "bob": key}
    assert world.rooms[room].epoch.previous is None


@pytest.mark.parametrize("history", ["shared", "since-join"])
def test_a_removal_starts_an_epoch_for_those_who_stay(world: World, history: History) -> None:
    room = world.create(history=history)
    world.add(room, "bob")
    world.add(room, "cyd", "reader")
    before, number = world.key(room), world.rooms[room].epoch.number
    change = world.remove(room, "bob")
    key = world.key(room)
    assert key != before
    assert opened(world, room, change) == {"ada": key, "cyd": key}
    state = world.rooms[room]
    assert state.epoch.number == number + 1
    assert state.holders() == {user("ada"), user("cyd")}
    if history == "shared":
        assert state.epoch.previous is not None
        committed = state.epochs[number].commitment
        assert follow_link(key, state.epoch_ref(number + 1), state.epoch.previous, committed) == before
    else:
        assert state.epoch.previous is None


@pytest.mark.parametrize("history", ["shared", "since-join"])
def test_a_rotation_leaves_out_who_was_revoked(world: World, history: History) -> None:
    room = world.create(history=history)
    world.add(room, "bob")
    world.add(room, "cyd")
    world.revoke("bob")
    change = world.rotate(room, by="cyd")
    key = world.key(room)
    assert opened(world, room, change) == {"ada": key, "cyd": key}
    assert not world.rooms[room].rotation_due(world.directory)


def test_an_addition_while_a_rotation_is_due_starts_an_epoch_without_the_revoked(world: World) -> None:
    room = world.create()
    world.add(room, "bob")
    world.revoke("bob")
    change = world.add(room, "cyd")
    assert opened(world, room, change) == {"ada": world.key(room), "cyd": world.key(room)}


def test_a_sealed_key_opens_only_for_its_recipient_room_and_epoch(world: World) -> None:
    room = world.create()
    sealed = world.add(room, "bob").sealed[user("bob")]
    state = world.rooms[room]
    right = state.epoch_ref(1)
    key = open_sealed(identity("bob"), sealed, right, state.epoch.commitment)
    assert commitment(key, right) == state.epoch.commitment
    for wrong in (EpochRef(world.bus, room, 2), EpochRef(world.bus, "a" * 26, 1), EpochRef("A" * 43, room, 1)):
        with pytest.raises(SealedKeyInvalid):
            open_sealed(identity("bob"), sealed, wrong, commitment(key, wrong))
    with pytest.raises(SealedKeyInvalid):
        open_sealed(identity("cyd"), sealed, right, state.epoch.commitment)


@pytest.mark.parametrize("handle", ["", "Ada", "ada lovelace", "-ada", "a" * 33, "аda"])
def test_a_handle_is_checked_before_anything_is_signed(world: World, handle: str) -> None:
    signer = world.signer("ada")
    with pytest.raises(InvalidInput, match="a handle is"):
        signer.found(handle)
    with pytest.raises(InvalidInput, match="a handle is"):
        signer.admit(world.directory, handle, identity("eve").card(), "member")


def test_a_rooms_name_is_checked_before_anything_is_signed(world: World) -> None:
    with pytest.raises(InvalidInput):
        world.signer("ada").create_room(world.directory, "pla\x1b[2Jns", "shared")


def test_no_room_without_a_bus(world: World) -> None:
    with pytest.raises(RuleBroken, match="no users yet"):
        world.signer("ada").create_room(Directory(), "plans", "shared")


def test_a_change_of_a_room_names_the_directory_that_its_signer_knew(world: World) -> None:
    room = world.create()
    assert world.rooms[room].directory == world.directory.head.sequence
    assert Room(world.bus, room).directory == 0
