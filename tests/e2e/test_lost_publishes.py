"""A bus that loses or refuses single frames while many are on their way: no message is lost, and nothing is amiss."""

import asyncio

import pytest

from tests.support.meddling import Fate, meddled
from tests.support.people import WAIT, Place, tail
from unibus import Room
from unibus.client.messages import Position
from unibus.client.outbox import Outbox
from unibus.client.sealer import Sealer
from unibus.daemon.node import Node
from unibus.errors import BusUnavailable

FRAMES = 12
BODY = "." * 500_000  # so that each message is a frame


async def post_all(room: Room) -> list[Position]:
    """One message a frame, as many on their way as there may be."""
    return [await one for one in [room.post(f"{number:02} {BODY}") for number in range(FRAMES)]]


@pytest.mark.parametrize(
    ("kind", "which"),
    [
        ("refuse", {0}),
        ("refuse", {FRAMES - 1}),
        ("refuse", {2, 3, 7}),
        ("refuse", set(range(FRAMES))),
        ("lose", {2, 3, 7}),
    ],
    ids=str,
)
async def test_each_message_comes_once_and_nothing_is_named(
    node: tuple[Node, Place], kind: Fate, which: set[int]
) -> None:
    running, place = node
    await place.found("bob")

    def fate(number: int) -> Fate:
        return kind if number - FRAMES in which else "pass"

    async with (
        asyncio.timeout(WAIT),
        meddled(running.http_port, running.bus.client_port, fate) as (url, meddler),
        Place(url, place.data_dir).enter("ada") as ada,
        place.enter("bob") as bob,
    ):
        room = await ada.create_room("ops")
        await room.add("bob")
        async with tail(await bob.room("ops")) as reading:
            # The first that are stored at once show the sender that it may have many on their way.
            acknowledged = await post_all(room) + await post_all(room)
            assert meddler.frames > 2 * FRAMES
            after = await room.send("after it")
            await reading.until(2 * FRAMES + 1)
            assert sorted(text[:2] for text in reading.texts) == sorted([f"{n:02}" for n in range(FRAMES)] * 2 + ["af"])
            assert reading.positions == sorted([*acknowledged, after])
            assert reading.refused == []


async def test_what_failed_for_good_is_not_missing(node: tuple[Node, Place]) -> None:
    running, place = node
    await place.found("bob")
    losing = True
    async with (
        asyncio.timeout(WAIT),
        meddled(running.http_port, running.bus.client_port, lambda _: "lose" if losing else "pass") as (url, _),
        Place(url, place.data_dir).enter("ada") as ada,
        place.enter("bob") as bob,
    ):
        room = await ada.create_room("ops")
        await room.add("bob")
        sealer = Sealer(ada, room)
        outbox = Outbox(ada.link, room.id, ada.user, sealer.ready, sealer.abandon, deadline=0.5)
        try:
            for failing in (True, False, True, False):
                losing = failing
                sent = outbox.post(b"lost" if failing else b"stored")
                if failing:
                    with pytest.raises(BusUnavailable, match="did not store"):
                        await sent
                else:
                    await sent
        finally:
            await outbox.close()
        async with tail(await bob.room("ops")) as reading:
            assert await reading.until(2) == ["stored", "stored"]
            assert reading.refused == []
