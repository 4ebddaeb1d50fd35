"""A rolling restart: every node ends as its manager ends it and comes back, one at a time, and no operation fails."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.cluster_e2e.test_three_nodes import admit_some
from tests.e2e.load import each_once_and_in_order
from tests.support.cluster import Cluster
from tests.support.people import tail
from unibus import Room
from unibus.client.messages import Position

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.timeout(180)]


async def send_some(room: Room, over: asyncio.Event) -> list[Position]:
    """Send messages, numbered and each waited for, until the event; where they are. One that fails ends this."""
    sent: list[Position] = []
    while not over.is_set():
        sent.append(await room.send(f"{len(sent)}"))
        await asyncio.sleep(0.01)
    return sent


async def test_nodes_are_restarted_one_at_a_time_and_no_operation_fails(whole: Cluster) -> None:
    async with AsyncExitStack() as stack:
        ada, bob, carol = [await stack.enter_async_context(whole.enter(name)) for name in ("ada", "bob", "carol")]
        plans = await ada.create_room("rolling")
        for name in ("bob", "carol"):
            await plans.add(name)
        reading = await stack.enter_async_context(tail(await carol.room("rolling")))
        over = asyncio.Event()
        admitting = asyncio.create_task(admit_some(ada, over))
        sending = asyncio.create_task(send_some(await bob.room("rolling"), over))
        for node in whole.nodes:
            assert not admitting.done()
            assert not sending.done()
            assert await node.stop() == 0
            await node.start()
            await whole.well()
        over.set()
        admitted, sent = await admitting, await sending
        assert len(admitted) > 10
        assert len(sent) > 50
        await reading.until(len(sent))
        each_once_and_in_order(sent, reading)
        assert {user.handle for user in await ada.users()} >= set(admitted)
