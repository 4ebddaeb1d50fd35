"""The KV engine under the store's specification: on one server, and on three where every handle is another node."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from tests.store.conformance import StoreConformance
from tests.store.kv_servers import Server, jetstream, node, running
from tests.store.racing_conformance import OpenStore
from unibus.store.port import Store


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with running(tmp_path_factory.mktemp("one"), 1) as servers:
        yield servers


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with running(tmp_path_factory.mktemp("three"), 3) as servers:
        yield servers


async def opened(servers: list[Server], directory: Path) -> AsyncIterator[OpenStore]:
    """Opens a store on each server in turn, each with a copy of its own, in a bucket of this test's own."""
    bucket = uuid4().hex
    async with AsyncExitStack() as ending:
        ending.push_async_callback(jetstream, servers[0], f"STREAM.DELETE.KV_{bucket}")
        count = 0

        async def open_store() -> Store:
            nonlocal count
            server = servers[count % len(servers)]
            count += 1
            replica = directory / f"replica-{count}"
            return await ending.enter_async_context(
                node(server, replica, bucket, name=f"node {count}", replicas=len(servers))
            )

        yield open_store


class TestOne(StoreConformance):
    @pytest.fixture
    async def open_store(self, one: list[Server], tmp_path: Path) -> AsyncIterator[OpenStore]:
        async for open_store in opened(one, tmp_path):
            yield open_store


class TestThree(StoreConformance):
    @pytest.fixture
    async def open_store(self, three: list[Server], tmp_path: Path) -> AsyncIterator[OpenStore]:
        async for open_store in opened(three, tmp_path):
            yield open_store
