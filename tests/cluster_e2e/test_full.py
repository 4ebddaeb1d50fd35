"""Members who fill the disks of a cluster: whoever did it is revoked all the same."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, cluster
from unibus import Room
from unibus.bus.reserve import TAKEN
from unibus.errors import NotAUser, StorageUnavailable, UnibusError
from unibus.tasks import end_tasks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MIB = 1 << 20
STORE = 64 * MIB
MESSAGE = 250_000


async def send_all(room: Room) -> int:
    """Send until the bus takes no more; how many messages it took."""
    sent = 0
    while True:
        done = await asyncio.gather(*(room.send(os.urandom(MESSAGE)) for _ in range(8)), return_exceptions=True)
        sent += sum(not isinstance(one, BaseException) for one in done)
        if failed := [one for one in done if isinstance(one, BaseException)]:
            for error in failed:
                assert isinstance(error, StorageUnavailable), error
                assert "no room for more messages" in error.message
            return sent


async def send_on(room: Room) -> None:
    """Send whatever the bus says, until cancelled."""
    while True:
        with contextlib.suppress(UnibusError):
            await room.send(os.urandom(MESSAGE))


@contextlib.asynccontextmanager
async def flooding(room: Room) -> AsyncIterator[None]:
    """While eight send into `room` without end."""
    senders = [asyncio.create_task(send_on(room)) for _ in range(8)]
    try:
        yield
    finally:
        await end_tasks(*senders)


def limit(made: Cluster, store: int) -> None:
    """Have all nodes store no more from their next start on."""
    for node in made.nodes:
        node.variables["UNIBUS_NATS_MAX_STORE"] = f"{store // MIB}M"


async def test_who_fills_the_disks_is_revoked(tmp_path: Path) -> None:
    async with cluster(tmp_path / "cluster") as made:
        limit(made, STORE)
        await made.start()
        await made.found("mallory")
        async with made.enter("ada", "n1") as ada, made.enter("mallory", "n2") as mallory:
            room = await ada.create_room("flood")
            await room.add("mallory")
            theirs = await mallory.room("flood")
            sent = await send_all(theirs)
            assert sent * MESSAGE > STORE // 4
            await made.until(lambda told: TAKEN in told["reasons"])
            async with flooding(theirs):
                for number in range(40):  # the admin's work goes on: records, keys, nonces, entries of the trail
                    await (await ada.create_room(f"room-{number}")).add("mallory")
                await ada.revoke("mallory")
        with pytest.raises(NotAUser):
            async with made.enter("mallory", "n3"):
                pass
        after = await made.until(lambda told: TAKEN in told["reasons"])
        assert {told["cluster"]["streams"]["KV_unibus"]["quorum"] for told in after.values()} == {True}


async def test_a_limit_that_sinks_below_what_is_stored_keeps_nobody_from_revoking(tmp_path: Path) -> None:
    async with cluster(tmp_path / "cluster") as made:
        limit(made, 3 * STORE)
        await made.start()
        await made.found("mallory")
        async with made.enter("ada") as ada, made.enter("mallory") as mallory:
            room = await ada.create_room("flood")
            await room.add("mallory")
            assert await send_all(await mallory.room("flood")) * MESSAGE > STORE
        await asyncio.gather(*(node.stop() for node in made.nodes))
        limit(made, STORE)
        await asyncio.gather(*(node.start() for node in made.nodes))
        await made.until(lambda told: TAKEN in told["reasons"])
        async with made.enter("ada") as ada, made.enter("mallory") as mallory:
            assert await send_all(await mallory.room("flood")) == 0
            await ada.revoke("mallory")
        with pytest.raises(NotAUser):
            async with made.enter("mallory"):
                pass
