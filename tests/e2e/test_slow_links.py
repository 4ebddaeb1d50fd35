"""A way to the bus that carries little: all that is posted is stored, all that is read comes, and each about once.

The way is a real proxy that passes on so many bytes a second and no more.
"""

import asyncio

from tests.support.people import Place, tail
from tests.support.proxies import proxied
from unibus.daemon.node import Node

LONG = 60.0  # seconds
RATE = 125_000  # bytes a second: 1 Mbit/s
BODY = bytes(4096)
POSTED = 160  # messages: five seconds over this way


async def test_what_is_posted_over_a_slow_link_is_sent_once_over_one_connection(node: tuple[Node, Place]) -> None:
    running, place = node
    await place.found()
    async with (
        asyncio.timeout(LONG),
        proxied(running.http_port, running.bus.client_port, 1, up=RATE) as (slow,),
        Place(slow.url, place.data_dir).enter("ada") as ada,
    ):
        room = await ada.create_room("ops")
        await room.send("hello")
        connections = slow.nats.connections
        sent = [room.post(BODY) for _ in range(POSTED)]
        await room.drain()
        positions = [await one for one in sent]
        assert positions == sorted(set(positions))
        assert slow.nats.connections == connections
        assert slow.nats.carried < 1.2 * POSTED * len(BODY)


async def test_what_is_read_over_a_slow_link_comes_over_one_connection(node: tuple[Node, Place]) -> None:
    running, place = node
    await place.found("bob")
    texts = ["a" * 900_000, "b" * 400_000, "c"]  # one takes longer than a delivery may be silent, both than a PING
    async with (
        asyncio.timeout(LONG),
        proxied(running.http_port, running.bus.client_port, 1, down=RATE) as (slow,),
        place.enter("ada") as ada,
        Place(slow.url, place.data_dir).enter("bob") as bob,
    ):
        room = await ada.create_room("ops")
        await room.add("bob")
        for text in texts[:2]:
            await room.send(text)
        async with tail(await bob.room("ops")) as reading:
            assert await reading.until(2) == texts[:2]
            await room.send(texts[2])
            assert await reading.until(3) == texts
            assert slow.nats.connections == 1
