"""Real nodes and the client library, while a member tries to stop everybody's messages with a header."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from tests.builders import identity, user
from tests.e2e.load import post
from tests.support.cluster import Cluster, ClusterNode, Health, cluster
from tests.support.people import tail
from unibus.bus.plane import STOPPED_BY_A_MEMBER
from unibus.bus.shut_out import FORGET_AFTER
from unibus.model import subjects

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MESSAGES = 6_000
STOPS = {"Nats-Expected-Last-Msg-Id": "nobody's"}


async def stop_the_messages(made: Cluster, node: ClusterNode, room: str) -> None:
    """What mallory does, with a stock client."""
    url = f"tls://127.0.0.1:{node.place.nats_port}"
    client = Client()
    try:
        await client.connect(
            url,
            tls=made.tls,
            tls_handshake_first=True,
            nkeys_seed_str=identity("mallory").seed,
            allow_reconnect=False,
            max_reconnect_attempts=1,
        )
        await client.publish(subjects.room_messages(room, user("mallory")), b"x", headers=STOPS)
        await client.flush()
    finally:
        await client.close()


def shut(told: Health) -> bool:
    return list(told["reasons"]) == [STOPPED_BY_A_MEMBER]


async def test_the_messages_of_honest_members_go_on_and_no_operation_fails(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made, AsyncExitStack() as stack:
        await made.start()
        await made.found("bob", "mallory")
        ada = await stack.enter_async_context(made.enter("ada", "n1"))
        bob = await stack.enter_async_context(made.enter("bob", "n2"))
        room = await ada.create_room("load")
        await room.add("bob")
        await room.add("mallory")
        reading = await stack.enter_async_context(tail(await bob.room("load")))
        posting = asyncio.create_task(post(room, MESSAGES))
        await reading.until(MESSAGES // 10)
        await stop_the_messages(made, made["n3"], room.id)
        admitted = asyncio.create_task(ada.admit("erin", identity("erin").card()))
        acknowledged = await posting
        await admitted
        await reading.until(MESSAGES)
        assert reading.texts == [str(number) for number in range(MESSAGES)]
        assert reading.positions == acknowledged == sorted(acknowledged)
        await made.until(shut)
        for node in made.nodes:
            with pytest.raises(nats.errors.Error):
                await stop_the_messages(made, node, room.id)
        await ada.revoke("mallory")
        await made.well(within=FORGET_AFTER + 10)
        await room.send("in the end")
