"""A steady load on one room, whose sender and reader have to come through whatever happens meanwhile."""

from tests.support.people import Tail
from unibus import Room
from unibus.client.batching import Sent
from unibus.client.messages import Position

AHEAD = 64  # messages that are posted and not yet acknowledged


async def post(room: Room, total: int) -> list[Position]:
    """Post `total` numbered messages; the positions that they were acknowledged with."""
    acknowledged: list[Position] = []
    posted: list[Sent] = []
    for number in range(total):
        posted.append(room.post(str(number)))
        if len(posted) - len(acknowledged) > AHEAD:
            acknowledged.append(await posted[len(acknowledged)])
    acknowledged += [await sent for sent in posted[len(acknowledged) :]]
    return acknowledged


def each_once_and_in_order(acknowledged: list[Position], reading: Tail) -> None:
    """Assert that what was read is what was acknowledged: each message once, in order, in its place."""
    assert reading.texts == [str(number) for number in range(len(acknowledged))]
    assert reading.positions == acknowledged == sorted(acknowledged)
    assert reading.refused == []
