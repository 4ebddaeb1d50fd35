"""A member who shows a frame of another's again, under their own name: to who has seen it, and to who begins anew."""

import asyncio

from tests.support.people import WAIT, Place, tail
from unibus import Bus
from unibus.crypto.encoding import dump_json
from unibus.errors import FrameInvalid, FrameReplayed
from unibus.model.subjects import control, delivery, room_messages


async def captured(bus: Bus, room: str) -> bytes:
    """The first frame of a room, as it came over the wire."""
    connection, token = await bus.link.connection(), "t" * 22
    came = await connection.nats.subscribe(delivery(bus.user, token))
    asked = dump_json({"room": room, "token": token, "after": 0})
    await connection.request(control(bus.user, "deliver"), asked, 5)
    return bytes((await came.next_msg(5)).data)


async def test_a_copy_under_another_name_is_not_believed(node: tuple[object, Place]) -> None:
    _, place = node
    await place.found("bob", "mallory")
    async with (
        asyncio.timeout(WAIT),
        place.enter("ada") as ada,
        place.enter("bob") as bob,
        place.enter("mallory") as mallory,
    ):
        room = await ada.create_room("ops")
        for name in ("bob", "mallory"):
            await room.add(name)
        said = await (await bob.room("ops")).send("yes, do it")
        theirs = await mallory.room("ops")
        frame = await captured(mallory, theirs.id)
        connection = await mallory.link.connection(theirs.id)
        await connection.request(room_messages(room.id, mallory.user), frame, 5)
        await room.send("the end")
        async with tail(room) as from_the_start, tail(room, said) as from_there:
            assert await from_the_start.until(2) == ["yes, do it", "the end"]
            assert await from_there.until(1) == ["the end"]
        for reading in (from_the_start, from_there):
            (refusal,) = reading.refused
            assert type(refusal.error) is FrameInvalid


async def test_a_copy_under_the_senders_own_name_is_not_given_twice(node: tuple[object, Place]) -> None:
    """As the server could: the same bytes again, without the id by which the bus knows them."""
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        await (await bob.room("ops")).send("pay 100")
        frame = await captured(bob, room.id)
        connection = await bob.link.connection(room.id)
        await connection.request(room_messages(room.id, bob.user), frame, 5)
        await room.send("the end")
        async with tail(room) as reading:
            assert await reading.until(2) == ["pay 100", "the end"]
        (refusal,) = reading.refused
        assert type(refusal.error) is FrameReplayed
