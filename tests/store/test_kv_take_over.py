"""A follower that is stopped between the messages of a take-over: each is told of once, and none is taken twice."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.bus.stage import Logbook
from tests.store.kv_servers import WAIT, Server, jetstream, node, running
from tests.store.test_kv_replica import put
from unibus.store.kv_entry import pack
from unibus.store.port import Append
from unibus.store.sqlite import to_add

OVERWROTE = "somebody overwrote a record in the cluster; this node keeps the first"
NOT_FOLLOWED = "this node does not follow the cluster now"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), 1) as (started,):
        yield started


async def test_what_was_kept_before_a_message_that_is_not_is_told_of(server: Server, tmp_path: Path) -> None:
    bucket, replica = uuid4().hex, tmp_path / "replica"
    async with node(server, replica, bucket) as store:
        for position in (1, 2):
            await store.append(Append("log", position, b"true"))
    forged = pack([to_add(Append("log", 1, b"forged"))], bytes(16)).data
    far = pack([to_add(Append("far", 9, b"of a log that is lost"))], bytes(16)).data
    async with node(server, tmp_path / "other", bucket, name="other") as other:
        await other.append(Append("log", 3, b"a removal"))
    await put(server, bucket, "log.log.1", forged)  # with this the messages are taken over one by one
    await put(server, bucket, "log.far.9", far)
    log, told, found = Logbook(), list[tuple[str, int]](), asyncio.Event()

    def hear(name: str, position: int, _value: bytes) -> None:
        told.append((name, position))
        found.set()

    async with node(server, replica, bucket, log=log.logger, current=False) as store:
        store.heard(hear)
        await log.heard(NOT_FOLLOWED)
        async with asyncio.timeout(WAIT):
            await found.wait()
    assert told == [("log", 3)]
    # Once somebody has mended the cluster, a node that was ended there goes on: nothing is told or taken twice.
    await jetstream(server, f"STREAM.PURGE.KV_{bucket}", {"filter": f"$KV.{bucket}.log.far.9"})
    again = Logbook()
    async with node(server, replica, bucket, log=again.logger) as store:
        store.heard(hear)
        await store.append(Append("log", 4, b"on it goes"))
        values = [entry.value for entry in await store.entries("log", 0, 9)]
        assert values == [b"true", b"true", b"a removal", b"on it goes"]
        assert await store.last("far") is None
    assert told == [("log", 3), ("log", 4)]
    assert {entry.get("position") for entry in again.entries if entry["event"] == OVERWROTE} <= {1}
    await jetstream(server, f"STREAM.DELETE.KV_{bucket}")
