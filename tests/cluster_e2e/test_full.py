"""Members who fill the disks of a cluster: whoever did it is revoked all the same."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.support.cluster import cluster
from unibus import Room
from unibus.bus.reserve import TAKEN
from unibus.errors import NotAUser, StorageUnavailable

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


async def test_who_fills_the_disks_is_revoked(tmp_path: Path) -> None:
    async with cluster(tmp_path / "cluster") as made:
        for node in made.nodes:
            node.variables["UNIBUS_NATS_MAX_STORE"] = f"{STORE // MIB}M"
        await made.start()
        await made.found("mallory")
        async with made.enter("ada", "n1") as ada, made.enter("mallory", "n2") as mallory:
            room = await ada.create_room("flood")
            await room.add("mallory")
            theirs = await mallory.room("flood")
            sent = await send_all(theirs)
            assert sent * MESSAGE > STORE // 4
            await made.until(lambda told: TAKEN in told["reasons"])
            for number in range(40):  # the admin's work goes on: records, keys, nonces, entries of the trail
                await (await ada.create_room(f"room-{number}")).add("mallory")
            await ada.revoke("mallory")
        with pytest.raises(NotAUser):
            async with made.enter("mallory", "n3"):
                pass
        after = await made.until(lambda told: TAKEN in told["reasons"])
        assert {told["cluster"]["streams"]["KV_unibus"]["quorum"] for told in after.values()} == {True}
