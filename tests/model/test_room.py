"""A room's rules, each with whoever would like to break it: a member, a removed one, a revoked one with the server."""

from collections.abc import Callable

import pytest

from tests.builders import ANY_DIGEST, AT, Change, RoomStory, Story, identity, salt, user
from unibus.crypto.heads import EMPTY, Head
from unibus.errors import (
    Forbidden,
    HeadConflict,
    LogForked,
    MalformedRecord,
    NotAUser,
    RuleBroken,
    UnibusError,
    WrongBus,
)
from unibus.model.bodies import Epoch, RoomAdd, RoomCreate, RoomLeave, RoomRotate, RoomSetRole, Strict
from unibus.model.records import read_record, room_log, write_record
from unibus.model.room import Room, check_sealed, reduce_room

Forge = Callable[[RoomStory], Change]


@pytest.fixture
def room() -> RoomStory:
    """Ada's room with Bob (member) and Rex (reader); Cyd and Dan are on the bus; Dan was removed; Eve was revoked."""
    story = Story()
    story.admit("bob", "cyd", "dan", "eve", "rex")
    room = RoomStory(story)
    room.add("bob", "dan", "eve")
    room.add("rex", role="reader")
    room.take(room.removal("dan"))
    story.revoke("eve")
    room.take(room.rotation())
    return room


def named(*names: str) -> set[str]:
    return {user(name) for name in names}


def forged(room: RoomStory, by: str, body: Strict, **changes: Head | str | None) -> Change:
    """`body` signed with any part of its place exchanged."""
    directory, after, bus, log = (
        changes.get("directory", room.story.directory.head),
        changes.get("after", room.state.head),
        changes.get("bus", room.story.bus),
        changes.get("log", room_log(room.id)),
    )
    assert isinstance(directory, Head | None)
    assert isinstance(after, Head)
    assert isinstance(bus, str)
    assert isinstance(log, str)
    return Change(write_record(identity(by).signing, bus, log, after, body, at=AT, directory=directory))


def rotate(room: RoomStory) -> RoomRotate:
    return RoomRotate(epoch=room.epoch(), sealed=ANY_DIGEST)


def rotate_with(room: RoomStory, **changes: object) -> RoomRotate:
    return RoomRotate(epoch=Epoch.model_validate(room.epoch().model_dump() | changes), sealed=ANY_DIGEST)


def test_roles_members_and_turns(room: RoomStory) -> None:
    state, directory = room.state, room.story.directory
    assert set(state.members(directory)) == named("ada", "bob", "rex")
    assert [state.may_write(user(name), directory) for name in ("ada", "bob", "rex", "cyd", "dan", "eve")] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert [state.role_at(user("dan"), n) for n in (0, 2, 3, 5, 6, 99)] == [None, None, "member", "member", None, None]
    assert state.role_at(user("rex"), 5) == "reader"
    assert state.role(user("eve"), directory) is None
    assert [state.epoch_at(n) for n in (0, 1, 5, 6, 7, 8)] == [0, 1, 1, 2, 3, 3]


def test_each_epochs_key_goes_to_exactly_those_who_are_in(room: RoomStory) -> None:
    assert room.state.holders(1) == named("ada", "bob", "dan", "eve", "rex")
    assert room.state.holders(2) == named("ada", "bob", "eve", "rex")
    assert room.state.holders(3) == named("ada", "bob", "rex")
    assert room.state.holders() == room.state.holders(3)
    assert room.state.holders(0) == room.state.holders(4) == set()
    assert list(room.state.epochs) == [1, 2, 3]


REFUSED: list[tuple[str, Forge, type[UnibusError]]] = [
    ("a member adds", lambda r: r.addition("cyd", by="bob"), Forbidden),
    ("a reader adds", lambda r: r.addition("cyd", by="rex"), Forbidden),
    ("a user adds themselves", lambda r: r.addition("cyd", by="cyd"), Forbidden),
    ("a removed member adds themselves", lambda r: r.addition("dan", by="dan"), Forbidden),
    ("a member removes another", lambda r: r.removal("rex", by="bob"), Forbidden),
    ("a member removes the owner", lambda r: r.removal("ada", by="bob"), Forbidden),
    ("a reader starts an epoch", lambda r: r.rotation(by="rex"), Forbidden),
    ("a removed member starts an epoch", lambda r: r.rotation(by="dan"), Forbidden),
    ("a stranger starts an epoch", lambda r: r.rotation(by="zoe"), NotAUser),
    ("a revoked member starts an epoch", lambda r: r.rotation(by="eve"), NotAUser),
    (
        "a revoked member goes back before the revocation",
        lambda r: r.rotation(by="eve", knows=r.story.directory.head_at(6)),
        RuleBroken,
    ),
    ("a member twice", lambda r: r.addition("bob"), RuleBroken),
    ("a stranger is added", lambda r: r.addition("zoe"), RuleBroken),
    ("who is not in is removed", lambda r: r.removal("cyd"), RuleBroken),
    ("who was removed is removed again", lambda r: r.removal("dan"), RuleBroken),
    ("an owner removes themselves", lambda r: r.removal("ada"), RuleBroken),
    ("the creation again", lambda r: r.created, HeadConflict),
    (
        "a second creation",
        lambda r: r.sign(
            "ada", RoomCreate(name="plans", salt=salt("plans"), history="shared", epoch=r.epoch(), sealed=ANY_DIGEST)
        ),
        RuleBroken,
    ),
    ("no directory head", lambda r: forged(r, "bob", rotate(r), directory=None), MalformedRecord),
    ("a made-up directory head", lambda r: forged(r, "bob", rotate(r), directory=Head(7, bytes(32))), LogForked),
    ("a directory head to come", lambda r: forged(r, "bob", rotate(r), directory=Head(8, bytes(32))), LogForked),
    ("an older directory head", lambda r: r.rotation(by="bob", knows=r.story.directory.head_at(6)), RuleBroken),
    ("another bus", lambda r: forged(r, "bob", rotate(r), bus=ANY_DIGEST), WrongBus),
    ("another room", lambda r: forged(r, "bob", rotate(r), log=room_log("a" * 26)), MalformedRecord),
    ("another predecessor", lambda r: forged(r, "bob", rotate(r), after=Head(7, bytes(32))), HeadConflict),
    ("a gap", lambda r: forged(r, "bob", rotate(r), after=Head(8, bytes(32))), HeadConflict),
    ("the start of the log anew", lambda r: forged(r, "bob", rotate(r), after=EMPTY), HeadConflict),
    ("the same epoch again", lambda r: forged(r, "bob", rotate_with(r, number=3)), RuleBroken),
    ("an epoch left out", lambda r: forged(r, "bob", rotate_with(r, number=5)), RuleBroken),
    ("no link in a room with shared history", lambda r: forged(r, "bob", rotate_with(r, previous=None)), RuleBroken),
    ("a directory record", lambda r: Change(r.story.revocation("bob")), MalformedRecord),
]


@pytest.mark.parametrize(("forge", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_and_nothing_changed(room: RoomStory, forge: Forge, error: type[UnibusError]) -> None:
    record = read_record(forge(room).raw)
    directory = room.story.directory
    before = vars(reduce_room(room.story.bus, room.id, map(read_record, room.records), directory))
    with pytest.raises(UnibusError) as caught:
        room.state.check(record, directory)
    assert type(caught.value) is error
    assert vars(room.state) == before


def test_nobody_can_make_another_room_of_the_same_id(room: RoomStory) -> None:
    body = RoomCreate(
        name="plans",
        salt=salt("plans"),
        history="shared",
        epoch=Epoch(number=1, commitment=ANY_DIGEST),
        sealed=ANY_DIGEST,
    )
    record = read_record(forged(room, "bob", body, after=EMPTY).raw)
    with pytest.raises(RuleBroken, match="id follows from its creator"):
        Room(room.story.bus, room.id).check(record, room.story.directory)


def test_who_goes_makes_no_key_for_those_who_stay(room: RoomStory) -> None:
    room.take(room.sign("ada", RoomSetRole(user=user("bob"), role="owner")))
    for name in ("ada", "bob"):
        record = read_record(room.removal(name, by=name).raw)
        with pytest.raises(RuleBroken, match="who goes leaves"):
            room.state.check(record, room.story.directory)
    room.take(room.sign("ada", RoomLeave()))
    assert room.state.rotation_due(room.story.directory)


def test_a_room_whose_name_would_mislead_is_not_made(room: RoomStory) -> None:
    with pytest.raises(RuleBroken, match="room's name"):
        RoomStory(room.story, name="pay\u202eslooc")


def test_a_room_begins_with_its_creation(room: RoomStory) -> None:
    with pytest.raises(RuleBroken, match="first record"):
        Room(room.story.bus, room.id).check(
            read_record(forged(room, "ada", rotate(room), after=EMPTY).raw), room.story.directory
        )


def test_history_since_join_rekeys_for_each_newcomer_and_links_nothing() -> None:
    story = Story()
    story.admit("bob")
    room = RoomStory(story, history="since-join")
    with pytest.raises(RuleBroken, match="starts an epoch"):
        room.take(room.sign("ada", RoomAdd(user=user("bob"), role="member", sealed=ANY_DIGEST)))
    with pytest.raises(RuleBroken, match="links"):
        room.take(forged(room, "ada", rotate_with(room, previous="A" * 64)))
    room.add("bob")
    assert room.state.holders(1) == named("ada")
    assert room.state.holders(2) == named("ada", "bob")
    assert room.state.epochs[2].previous is None


def test_a_revocation_makes_a_rotation_due_until_it_is_done(room: RoomStory) -> None:
    story, state = room.story, room.state
    assert not state.rotation_due(story.directory)
    story.revoke("bob")
    assert state.rotation_due(story.directory)
    assert not state.may_write(user("bob"), story.directory)
    room.add("cyd")
    assert state.rotation_due(story.directory)
    room.take(room.rotation(by="cyd"))
    assert not state.rotation_due(story.directory)
    assert state.holders() == named("ada", "cyd", "rex")


def test_a_revoked_owner_is_shut_out_by_the_first_record_that_knows() -> None:
    # Eve owned the room, was revoked, and has the server on her side: she signs as if she had not heard of it.
    story = Story()
    story.admit("bob", "eve", "mal")
    room = RoomStory(story, "eve")
    room.take(room.addition("bob", by="eve", role="owner"))
    before = story.directory.head
    story.revoke("eve")
    backdated = room.addition("mal", by="eve", knows=before)
    room.state.check(read_record(backdated.raw), story.directory)
    assert room.state.rotation_due(story.directory)

    room.take(room.rotation(by="bob"))
    for late in (room.addition("mal", by="eve", knows=before), room.rotation(by="eve", knows=before), backdated):
        with pytest.raises((RuleBroken, HeadConflict)):
            room.state.check(read_record(late.raw), story.directory)
    assert room.state.holders() == named("bob")


def test_an_epoch_made_before_a_revocation_was_known_is_due_again() -> None:
    story = Story()
    story.admit("bob", "eve")
    room = RoomStory(story)
    room.add("bob", "eve")
    before = story.directory.head
    story.revoke("eve")
    room.take(room.rotation(by="bob", knows=before))
    assert user("eve") in room.state.holders()
    assert room.state.rotation_due(story.directory)


def test_who_was_revoked_can_be_taken_out_but_not_let_in(room: RoomStory) -> None:
    room.story.revoke("cyd")
    with pytest.raises(RuleBroken, match="not on the bus"):
        room.take(room.addition("cyd"))
    room.take(room.removal("eve"))
    assert user("eve") not in room.state.roles


def test_a_room_keeps_an_owner_who_is_on_the_bus() -> None:
    story = Story()
    story.admit("bob", "cyd")
    room = RoomStory(story)
    room.take(room.addition("bob", role="owner"))
    story.admit("eve", role="admin")
    story.revoke("bob")
    for body, why in ((RoomLeave(), "names a successor"), (RoomSetRole(user=user("ada"), role="member"), "one owner")):
        with pytest.raises(RuleBroken, match=why):
            room.take(room.sign("ada", body))


def test_a_removed_member_may_come_back_and_reads_under_the_new_key(room: RoomStory) -> None:
    room.add("dan")
    assert room.state.role_at(user("dan"), 8) == "member"
    assert room.state.role_at(user("dan"), 7) is None
    assert user("dan") in room.state.holders()
    assert user("dan") not in room.state.holders(2)


def test_sealed_keys_are_exactly_the_recipients(room: RoomStory) -> None:
    directory = room.story.directory
    change = room.removal("rex")
    record = read_record(change.raw)
    assert room.state.recipients(record, directory) == named("ada", "bob")
    check_sealed(room.state, record, change.sealed, directory)
    for sealed, amiss in (
        ({**change.sealed, user("rex"): b""}, "rex"),
        ({**change.sealed, user("dan"): b""}, "dan"),
        ({user("ada"): b""}, "bob"),
        ({}, "ada"),
    ):
        with pytest.raises(RuleBroken, match=amiss):
            check_sealed(room.state, record, sealed, directory)
    assert room.state.recipients(read_record(room.addition("cyd").raw), directory) == named("cyd")
    with_epoch = room.addition("cyd", rekey=True)
    assert room.state.recipients(read_record(with_epoch.raw), directory) == named("ada", "bob", "rex", "cyd")


@pytest.mark.parametrize("lost", range(6))
def test_a_log_with_a_record_left_out_does_not_reduce(room: RoomStory, lost: int) -> None:
    kept = [raw for place, raw in enumerate(room.records) if place != lost]
    with pytest.raises((HeadConflict, RuleBroken)):
        reduce_room(room.story.bus, room.id, map(read_record, kept), room.story.directory)
