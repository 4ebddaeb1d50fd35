"""Rooms' only writer: records and sealed keys in one step, judged by the state at that moment, or nothing at all."""

import asyncio
from collections.abc import Callable

import pytest

from tests.builders import ANY_DIGEST, AT, Change, RoomStory, Story, identity, stand_in_keys, user
from tests.services.running import Node
from unibus.crypto.encoding import b64u
from unibus.crypto.heads import Head
from unibus.crypto.roomkey import open_sealed, seal_to, sealed_digest
from unibus.errors import (
    Forbidden,
    HeadConflict,
    InvalidInput,
    MalformedRecord,
    NotAUser,
    NotFound,
    RuleBroken,
    UnibusError,
    WrongBus,
)
from unibus.model.bodies import RoomAdd, RoomRotate
from unibus.model.records import DIRECTORY, room_log, write_record
from unibus.services.gate import member_mark


async def test_a_room_with_its_keys_and_marks_stands_in_one_step(node: Node, room: RoomStory) -> None:
    assert (await node.written())[room_log(room.id)] == room.records
    assert (await node.books.room(room.id)).head == room.state.head
    assert await node.gate.rooms(user("bob"), "", 10) == [room.id]
    for name, sequences in (("ada", [1]), ("bob", [2]), ("rex", [3])):
        assert [key.position for key in await node.reading.keys(user(name), room.id, 0, 10)] == sequences
    assert await node.store.marks("member/", "", 10) == sorted(
        (member_mark(user(name), room.id), role)
        for name, role in (("ada", b"owner"), ("bob", b"member"), ("rex", b"reader"))
    )


async def test_what_the_recipient_is_handed_opens_to_the_rooms_key(node: Node, story: Story, room: RoomStory) -> None:
    ref, cyd = room.state.epoch_ref(1), identity("cyd")
    sealed = {cyd.user: seal_to(room.key(1), ref, cyd.user, story.directory.users[cyd.user].sealing)}
    body = RoomAdd(user=cyd.user, role="member", sealed=b64u(sealed_digest(sealed)))
    log, head, directory = room_log(room.id), room.state.head, story.directory.head
    raw = write_record(identity("ada").signing, story.bus, log, head, body, at=AT, directory=directory)
    await node.membership.append_room(user("ada"), room.id, raw, sealed)
    (handed,) = await node.reading.keys(cyd.user, room.id, 0, 10)
    assert open_sealed(cyd, handed.value, ref, room.state.epoch.commitment) == room.key(1)


Forge = Callable[[RoomStory], Change]


def rotation(
    room: RoomStory, by: str, *, at: int = AT, bus: str | None = None, directory: Head | None = None
) -> Change:
    body = RoomRotate(epoch=room.epoch(), sealed=ANY_DIGEST)
    log, head = room_log(room.id), room.state.head
    named = directory or room.story.directory.head
    return Change(write_record(identity(by).signing, bus or room.story.bus, log, head, body, at=at, directory=named))


REFUSED: list[tuple[str, str, Forge, type[UnibusError]]] = [
    ("a member adds", "bob", lambda r: r.addition("cyd", by="bob"), Forbidden),
    ("a reader rekeys", "rex", lambda r: r.rotation(by="rex"), Forbidden),
    ("a member brings the owner's record", "bob", lambda r: r.addition("cyd"), Forbidden),
    ("an outsider rekeys", "cyd", lambda r: r.rotation(by="cyd"), NotFound),
    ("an outsider adds themselves", "cyd", lambda r: r.addition("cyd", by="cyd"), NotFound),
    ("a stranger adds themselves", "zoe", lambda r: r.addition("cyd", by="zoe"), NotAUser),
    ("a stranger is added", "ada", lambda r: r.addition("zoe"), RuleBroken),
    ("the last owner leaves", "ada", lambda r: r.removal("ada"), RuleBroken),
    ("another bus", "bob", lambda r: rotation(r, "bob", bus=ANY_DIGEST), WrongBus),
    ("a directory nobody has", "bob", lambda r: rotation(r, "bob", directory=Head(3, bytes(32))), HeadConflict),
    ("a directory to come", "bob", lambda r: rotation(r, "bob", directory=Head(99, bytes(32))), HeadConflict),
    ("a clock that is slow", "bob", lambda r: rotation(r, "bob", at=AT - 301), InvalidInput),
    ("a clock that is fast", "bob", lambda r: rotation(r, "bob", at=AT + 301), InvalidInput),
    ("a directory record", "ada", lambda r: Change(r.story.revocation("bob")), MalformedRecord),
    ("no record", "bob", lambda _: Change(b"\xff\0"), MalformedRecord),
    ("another room's record", "ada", lambda r: RoomStory(r.story, name="other").created, MalformedRecord),
]


@pytest.mark.parametrize(("actor", "forge", "error"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_refused_and_nothing_changed(
    node: Node, room: RoomStory, actor: str, forge: Forge, error: type[UnibusError]
) -> None:
    before, change = await node.written(), forge(room)
    with pytest.raises(UnibusError) as caught:
        await node.membership.append_room(user(actor), room.id, change.raw, change.sealed)
    assert type(caught.value) is error
    assert await node.written() == before
    assert (await node.books.room(room.id)).head == room.state.head
    assert node.effects.calls == []


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda _: {}, RuleBroken),
        (lambda sealed: {name: key for name, key in sealed.items() if name != user("bob")}, RuleBroken),
        (lambda sealed: {**sealed, user("cyd"): sealed[user("bob")]}, RuleBroken),
        (lambda sealed: {**sealed, user("bob"): sealed[user("ada")]}, RuleBroken),
        (lambda sealed: {**sealed, user("bob"): bytes(len(sealed[user("bob")]))}, RuleBroken),
        (lambda sealed: {**sealed, user("bob"): sealed[user("bob")][:-1]}, InvalidInput),
        (lambda sealed: {**sealed, user("bob"): sealed[user("bob")] + b"\0"}, InvalidInput),
        (lambda sealed: {**sealed, user("bob"): b""}, InvalidInput),
    ],
    ids=["none", "one missing", "one too many", "exchanged", "altered", "short", "long", "empty"],
)
async def test_sealed_keys_other_than_those_signed_for_are_refused(
    node: Node, room: RoomStory, spoil: Callable[[dict[str, bytes]], dict[str, bytes]], error: type[UnibusError]
) -> None:
    change = room.rotation()
    with pytest.raises(error):
        await node.bring("ada", room, Change(change.raw, spoil(dict(change.sealed))))
    assert [key.position for key in await node.reading.keys(user("bob"), room.id, 0, 10)] == [2]
    await node.bring("ada", room, change)
    assert [key.position for key in await node.reading.keys(user("bob"), room.id, 0, 10)] == [2, 4]


@pytest.mark.parametrize("whom", [(), ("ada",), ("ada", "bob", "rex", "cyd"), ("bob", "rex", "cyd")])
async def test_a_key_goes_to_nobody_but_the_members_also_if_signed_for(
    node: Node, room: RoomStory, whom: tuple[str, ...]
) -> None:
    # Bob leaves somebody out, or lets somebody in, and signs for exactly those keys.
    sealed = stand_in_keys(map(user, whom))
    body = RoomRotate(epoch=room.epoch(), sealed=b64u(sealed_digest(sealed)))
    log, head, directory = room_log(room.id), room.state.head, room.story.directory.head
    raw = write_record(identity("bob").signing, room.story.bus, log, head, body, at=AT, directory=directory)
    with pytest.raises(RuleBroken, match="do not fit the members"):
        await node.bring("bob", room, Change(raw, sealed))
    assert (await node.books.room(room.id)).head == head


async def test_a_record_from_before_a_revocation_is_sent_back(node: Node, story: Story, room: RoomStory) -> None:
    stale = room.addition("cyd")
    raw = story.revocation("eve")
    head = await node.membership.append_directory(user("ada"), raw)
    story.take(raw)
    with pytest.raises(HeadConflict) as caught:
        await node.bring("ada", room, stale)
    assert caught.value.extra == {"log": DIRECTORY, "sequence": head.sequence, "hash": head.hash}
    await node.bring("ada", room, room.addition("cyd"))


async def test_an_admission_in_between_does_not_send_a_record_back(node: Node, story: Story, room: RoomStory) -> None:
    signed = room.addition("cyd")
    await node.membership.append_directory(user("ada"), story.admission("zoe"))
    assert (await node.bring("ada", room, signed)).sequence == 4


async def test_a_revoked_user_writes_nothing_however_it_is_dated(node: Node, story: Story, room: RoomStory) -> None:
    await node.take("ada", room, room.addition("eve", role="owner"))
    known = story.directory.head
    raw = story.revocation("eve")
    await node.membership.append_directory(user("ada"), raw)
    story.take(raw)
    for change in (room.addition("cyd", by="eve", knows=known), room.rotation(by="eve"), room.removal("bob", by="eve")):
        with pytest.raises(NotAUser):
            await node.bring("eve", room, change)
    assert (await node.books.room(room.id)).head.sequence == 4
    assert (await node.books.room(room.id)).rotation_due(node.books.directory)


async def test_a_removed_member_learns_nothing_more_of_the_room(node: Node, room: RoomStory) -> None:
    own = room.rotation(by="bob")
    await node.take("bob", room, own)
    await node.take("ada", room, room.removal("bob"))
    for attempt in (room.rotation(by="bob"), room.addition("cyd", by="bob"), room.removal("rex", by="bob")):
        with pytest.raises(NotFound) as caught:
            await node.bring("bob", room, attempt)
        assert not caught.value.extra
    # What he was told once he may be told again.
    assert (await node.bring("bob", room, own)).sequence == 4


async def test_a_removal_withdraws_before_it_is_announced_and_unmarks(node: Node, room: RoomStory) -> None:
    head = await node.bring("ada", room, room.removal("bob"))
    all_of_them = frozenset({user("ada"), user("bob"), user("rex")})
    assert node.effects.calls == [
        ("withdraw", user("bob"), room.id),
        ("announce", all_of_them, room_log(room.id), 4, head.hash),
    ]
    assert await node.gate.rooms(user("bob"), "", 10) == []


async def test_an_addition_is_announced_to_the_newcomer_too(node: Node, room: RoomStory) -> None:
    head = await node.bring("ada", room, room.addition("cyd"))
    everybody = frozenset(user(name) for name in ("ada", "bob", "rex", "cyd"))
    assert node.effects.calls == [("announce", everybody, room_log(room.id), 4, head.hash)]


async def test_of_racing_writers_one_wins_and_the_other_learns_the_head(node: Node, room: RoomStory) -> None:
    drafts = {"ada": room.removal("rex"), "bob": room.rotation(by="bob")}
    outcomes = await asyncio.gather(
        *(node.bring(by, room, change) for by, change in drafts.items()), return_exceptions=True
    )
    (lost,) = [outcome for outcome in outcomes if isinstance(outcome, HeadConflict)]
    (won,) = [outcome for outcome in outcomes if isinstance(outcome, Head)]
    assert lost.extra == {"sequence": 4, "hash": won.hash}
    assert len((await node.written())[room_log(room.id)]) == 4


async def test_a_repeated_record_is_answered_as_the_first_time(node: Node, room: RoomStory) -> None:
    change = room.removal("rex")
    head = await node.bring("ada", room, change)
    node.effects.calls.clear()
    assert await node.bring("ada", room, change) == head
    # Also the creation, by which a room would come into being again.
    assert (await node.bring("ada", room, room.created)).sequence == 1
    assert node.effects.calls == []
    assert len((await node.written())[room_log(room.id)]) == 4


async def test_a_request_that_is_gone_is_carried_out_whole(node: Node, room: RoomStory) -> None:
    node.effects.hold()
    request = asyncio.create_task(node.bring("ada", room, room.removal("bob")))
    await node.effects.reached.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    node.effects.held.set()
    await node.membership.close()
    assert [call[0] for call in node.effects.calls] == ["withdraw", "announce"]
    assert (await node.books.room(room.id)).role(user("bob"), node.books.directory) is None


async def test_rooms_need_a_bus_and_a_creation(node: Node, story: Story, room: RoomStory) -> None:
    other = RoomStory(story, name="other")
    with pytest.raises(NotFound):
        await node.bring("ada", other, other.rotation())
    with pytest.raises(HeadConflict):
        await node.bring("ada", room, RoomStory(story, history="since-join").created)
