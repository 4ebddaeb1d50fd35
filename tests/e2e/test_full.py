"""A node whose room for messages is taken: by name for who sends, in /healthz for who runs it."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import options
from tests.support.people import WAIT, Place
from unibus.daemon.nats_options import NatsLimits
from unibus.daemon.node import Node
from unibus.errors import StorageUnavailable

ROOM_FOR, MESSAGE = 4 << 20, 500_000


async def test_a_message_that_finds_no_room_fails_by_name_and_the_node_says_so(data_dir: Path) -> None:
    full = replace(options(data_dir), nats_limits=NatsLimits(store=ROOM_FOR))
    async with Node(full) as node, asyncio.timeout(WAIT):
        place = Place(f"http://127.0.0.1:{node.http_port}", data_dir)
        await place.found()
        async with place.enter("ada") as ada:
            room = await ada.create_room("ops")
            for _ in range(ROOM_FOR // MESSAGE):
                await room.send(os.urandom(MESSAGE))
            with pytest.raises(StorageUnavailable, match="no room for more messages"):
                await asyncio.gather(*(room.send(os.urandom(MESSAGE)) for _ in range(4)))
        while not any("has room for" in reason for reason in (await node.health())["reasons"]):  # noqa: ASYNC110 - the node looks every few seconds
            await asyncio.sleep(0.2)
