"""A way to the bus that carries little: all that is posted is stored, and sent about once.

The way is a real proxy that passes on so many bytes a second and no more.
"""

import asyncio

from tests.support.people import Place
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
