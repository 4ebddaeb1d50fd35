"""Which records of other nodes are looked at here: each that takes something away, and what is not understood."""

import asyncio

import pytest

from tests.builders import ANY_DIGEST, RoomStory, Story, user
from tests.services.running import Node
from unibus.crypto.encoding import b64u
from unibus.model.bodies import RoomRemove, RoomRename
from unibus.model.records import room_log
from unibus.services.books import Books
from unibus.services.followed import Followed
from unibus.services.following import Following, takes_away
from unibus.tasks import end_tasks


def test_removals_and_revocations_are_seen_and_the_rest_is_passed_over() -> None:
    story = Story()
    story.admit("bob")
    room = RoomStory(story)
    removal = room.sign("ada", RoomRemove(user=user("bob"), epoch=room.epoch(), sealed=ANY_DIGEST))
    assert takes_away(removal.raw)
    assert takes_away(story.revocation("bob"))
    assert not takes_away(room.created.raw)
    assert not takes_away(room.sign("ada", RoomRename(name="other")).raw)
    assert not takes_away(story.admission("cem"))


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{", b'{"type": 1}', b'{"type": "room.new"}', b'{"type": "a", "type": "room.create"}']
)
def test_what_is_not_understood_is_never_passed_over(payload: bytes) -> None:
    assert takes_away(b"e30." + b64u(payload).encode() + b".AA")


@pytest.mark.parametrize(
    "payload",
    [
        b'{"body":{"type":"room.create","v":1},"type":"room.remove"}',
        b'{"type":"room.remove","z":{"type":"room.create","v":1}}',
        rb'{"type":"room.remove","z":"\"type\":\"room.create\",\"v\":1}"}',
        rb'{"type":"room.remove","z\"type":"room.create","v":1}',
        b'{"type":"room.remove","v":1}',
        b'{"type":"room.create","v":1',
    ],
)
def test_only_what_stands_outermost_says_that_nothing_is_taken(payload: bytes) -> None:
    assert takes_away(b"e30." + b64u(payload).encode() + b".AA")


@pytest.mark.parametrize("raw", [b"", b"nothing", b"a.=.b", b"\xff.\xff.\xff"])
def test_nor_is_what_is_no_record(raw: bytes) -> None:
    assert takes_away(raw)


async def test_a_removal_heard_of_before_the_records_are_read_takes_effect_once_they_are(
    node: Node, room: RoomStory
) -> None:
    """A node that starts while somebody is removed elsewhere hears of it before it can judge anything."""
    removal = room.removal("bob")
    await node.take("ada", room, removal)
    node.effects.calls.clear()
    books, followed = Books(node.store), Followed(node.store)
    following = Following(books, node.effects, books.load, followed)
    running = asyncio.create_task(following.run())
    try:
        following.heard(room_log(room.id), room.state.head.sequence, removal.raw)
        node.effects.reached.clear()
        done, _ = await asyncio.wait([running], timeout=0.1)
        assert not done
        assert node.effects.calls == []
        await books.load()
        async with asyncio.timeout(5):
            await node.effects.reached.wait()
        assert node.effects.calls == [("withdraw", user("bob"), room.id)]
    finally:
        await end_tasks(running)
