"""A removal is answered once it holds on every node: nobody is cut off late, and no silent node stands in the way."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.builders import identity, user
from tests.support.cluster import Cluster
from tests.support.people import Tail, tail
from unibus import Bus
from unibus.bus.fellows import END_WITHIN, WITHIN
from unibus.client.room import Room
from unibus.crypto.encoding import b64u
from unibus.errors import NotFound
from unibus.model import subjects

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

SOON = 2.0
"""Seconds that a removal may take on a busy machine when nobody is waited for."""


async def open_deliveries(whole: Cluster, node: str) -> int:
    return int((await whole[node].health())["bus"]["deliveries"])


@asynccontextmanager
async def stock_client(whole: Cluster, node: str, name: str) -> AsyncIterator[Client]:
    """A NATS client of a member at a node, which goes nowhere else."""
    client = Client()
    await client.connect(
        f"tls://127.0.0.1:{whole[node].place.nats_port}",
        tls=whole.tls,
        tls_handshake_first=True,
        nkeys_seed_str=identity(name).seed,
        allow_reconnect=False,
        max_reconnect_attempts=1,
    )
    try:
        yield client
    finally:
        await client.close()


async def room_with(stack: AsyncExitStack, ada: Bus, bob: Bus, name: str) -> tuple[Room, Tail]:
    """A room of both, which bob reads."""
    room = await ada.create_room(name)
    await room.add("bob")
    reading = await stack.enter_async_context(tail(await bob.room(name)))
    await room.send("with bob")
    await reading.until(1)
    return room, reading


async def test_when_a_removal_is_answered_the_other_node_delivers_no_more(whole: Cluster) -> None:
    async with whole.enter("ada", "n1") as ada, whole.enter("bob", "n2", only=True) as bob:
        for number in range(20):
            async with AsyncExitStack() as stack:
                room, reading = await room_with(stack, ada, bob, f"room {number}")
                assert await open_deliveries(whole, "n2") == 1
                await room.remove("bob")
                assert await open_deliveries(whole, "n2") == 0
                await room.send("without bob")
                assert isinstance(await reading.end(), NotFound)
                assert reading.texts == ["with bob"]


async def test_a_removal_waits_for_a_node_that_is_late(whole: Cluster) -> None:
    async with AsyncExitStack() as stack:
        ada = await stack.enter_async_context(whole.enter("ada", "n1"))
        bob = await stack.enter_async_context(whole.enter("bob", "n2", only=True))
        room, reading = await room_with(stack, ada, bob, "late")
        whole["n2"].send(signal.SIGSTOP, child=False)
        try:
            removing = asyncio.create_task(room.remove("bob"))
            done, _ = await asyncio.wait([removing], timeout=SOON)
            assert not done
        finally:
            whole["n2"].send(signal.SIGCONT, child=False)
        await removing
        await room.send("without bob")
        assert isinstance(await reading.end(), NotFound)
        assert reading.texts == ["with bob"]


async def open_delivery(client: Client, room: str) -> list[str]:
    """What a stock client is delivered of the room from here on: who published each frame."""
    token = b64u(os.urandom(16))
    got: list[str] = []

    async def note(message: Msg) -> None:
        if message.data:
            got.append(message.subject)

    await client.subscribe(subjects.delivery(user("bob"), token), cb=note)
    asked = json.dumps({"room": room, "token": token}).encode()
    inbox = f"{subjects.inbox_prefix(user('bob'))}.{token}"
    answer = await client.subscribe(inbox)
    await client.publish(subjects.control(user("bob"), subjects.DELIVER), asked, reply=inbox)
    assert "after" in json.loads((await answer.next_msg(5)).data)
    return got


async def test_what_a_silent_node_delivers_is_ended_by_the_one_that_removes(whole: Cluster) -> None:
    """Its nats-server goes on, and with it what it was told to deliver before its daemon fell silent."""
    async with AsyncExitStack() as stack:
        ada = await stack.enter_async_context(whole.enter("ada", "n1", only=True))
        room = await ada.create_room("silent")
        await room.add("bob")
        client = await stack.enter_async_context(stock_client(whole, "n2", "bob"))
        got = await open_delivery(client, room.id)
        await room.send("with bob")
        async with asyncio.timeout(SOON):
            while not got:  # noqa: ASYNC110 - the client's own callback tells nobody
                await asyncio.sleep(0.01)
        whole["n2"].send(signal.SIGSTOP, child=False)
        try:
            began = time.monotonic()
            await room.remove("bob")
            assert WITHIN - 1.0 < time.monotonic() - began < WITHIN + SOON
            for _ in range(20):
                await room.send("without bob")
            await client.flush()
            assert client.is_connected
            assert len(got) == 1
        finally:
            whole["n2"].send(signal.SIGCONT, child=False)
    await whole.well()


async def test_a_node_that_hangs_holds_up_one_removal_for_some_seconds(whole: Cluster) -> None:
    leaders = [(await whole.leader(of)).name for of in ("records", "cluster")]
    hanging = whole.others(*leaders)[0]
    async with whole.enter("ada", leaders[0], only=True) as ada:
        rooms = [await ada.create_room(f"hanging {number}") for number in range(3)]
        for room in rooms:
            await room.add("bob")
        hanging.send(signal.SIGSTOP)
        try:
            took = []
            for room in rooms:
                began = time.monotonic()
                await room.remove("bob")
                took.append(time.monotonic() - began)
        finally:
            hanging.send(signal.SIGCONT)
        assert took[0] < WITHIN + END_WITHIN + SOON
        assert max(took[1:]) < SOON, took
    await whole.well()
