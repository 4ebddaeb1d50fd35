"""Blobs in the object store of three nats-servers: any node goes on where another stopped, whichever is killed."""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import aclosing
from functools import partial
from hashlib import sha256
from typing import TypeVar

import pytest

from tests.store.blob_conformance import BlobConformance
from tests.store.blob_samples import DATA, LARGE, LARGE_PLACE, MIB, NOTE, PLACE, Kept, OpenBlobs, read, stored
from tests.store.blob_servers import WAIT, Dial, Server, servers
from tests.support.parts import blocks
from unibus.crypto.encoding import b64u
from unibus.errors import NoQuorum, StorageUnavailable
from unibus.store.blob_objects import ObjectBlobs
from unibus.store.blob_objects_layout import Subjects
from unibus.store.blob_port import BlobStore

pytestmark = pytest.mark.slow

T = TypeVar("T")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with servers(tmp_path_factory.mktemp("blobs"), 3) as three:
        yield three


@pytest.fixture
async def nodes(cluster: list[Server]) -> AsyncIterator[list[Dial]]:
    nodes = [Dial(server) for server in cluster]
    for node in nodes:
        await node.connect()
    for node in nodes:
        await node.ready()
    yield nodes
    for node in nodes:
        await node.close()


@pytest.fixture
async def bucket(nodes: list[Dial]) -> AsyncIterator[str]:
    name = f"blobs-{secrets.token_hex(4)}"
    yield name
    await nodes[0].api(f"STREAM.DELETE.OBJ_{name}")


async def through(node: Dial, bucket: str) -> ObjectBlobs:
    return await ObjectBlobs.open(node, replicas=3, clock=time.time, bucket=bucket)


async def settled(what: Callable[[], Awaitable[T]]) -> T:
    """The outcome, once the cluster has a leader."""
    async with asyncio.timeout(WAIT):
        while True:
            try:
                return await what()
            except StorageUnavailable:
                await asyncio.sleep(0.1)


async def leader(node: Dial, bucket: str) -> str:
    match await node.api(f"STREAM.INFO.OBJ_{bucket}"):
        case {"cluster": {"leader": str(name)}}:
            return name
        case answer:
            raise AssertionError(answer)


class TestCluster(BlobConformance):
    @pytest.fixture
    def open_blobs(self, nodes: list[Dial], bucket: str) -> OpenBlobs:
        turns = itertools.cycle(nodes)

        async def open_blobs() -> BlobStore:
            return await through(next(turns), bucket)

        return open_blobs

    @pytest.fixture
    def kept(self, nodes: list[Dial], bucket: str) -> Kept:
        async def kept() -> Collection[str]:
            match await nodes[0].api(f"STREAM.INFO.OBJ_{bucket}", {"subjects_filter": ">"}):
                case {"state": {"subjects": dict(subjects)}}:
                    return [name for name in subjects if name != Subjects(bucket).barrier]
                case _:
                    return []

        return kept


async def back(nodes: list[Dial]) -> None:
    """Start and connect what does not run."""
    for node in nodes:
        if node.server.process is None:
            node.server.start()
            await node.connect()
    for node in nodes:
        await node.ready()


@pytest.mark.parametrize("own", [True, False], ids=["the sender's own server", "another node's server"])
async def test_an_upload_outlives_the_leader(nodes: list[Dial], bucket: str, own: bool) -> None:
    await (await through(nodes[0], bucket)).begin(LARGE_PLACE, len(LARGE))
    leading = await leader(nodes[0], bucket)
    nodes.sort(key=lambda node: node.server.name != leading)
    sender, other = [await through(node, bucket) for node in (nodes if own else nodes[1:])][:2]
    await sender.receive(LARGE_PLACE, 0, blocks(LARGE[:MIB]))

    async def killing() -> AsyncIterator[bytes]:
        yield LARGE[MIB : 3 * MIB + 1]
        yield LARGE[3 * MIB + 1 : 4 * MIB]
        nodes[0].server.kill()
        yield LARGE[4 * MIB :]

    with pytest.raises(StorageUnavailable):
        await sender.receive(LARGE_PLACE, MIB, killing())
    upload = await settled(lambda: other.upload(LARGE_PLACE))
    assert upload is not None
    assert upload.received == MIB
    await settled(lambda: other.receive(LARGE_PLACE, MIB, blocks(LARGE[MIB:])))
    held = await settled(lambda: other.finish(LARGE_PLACE, NOTE, 7))
    await back(nodes)
    for node in nodes:
        store = await through(node, bucket)
        assert await settled(partial(store.find, "room", LARGE_PLACE.blob)) == held
        assert await read(store, 0, len(LARGE), LARGE_PLACE) == LARGE


async def test_a_download_outlives_the_leader_and_no_quorum_is_named(nodes: list[Dial], bucket: str) -> None:
    first = await through(nodes[0], bucket)
    held = await stored(first, LARGE_PLACE, LARGE)
    leading = await leader(nodes[0], bucket)
    nodes.sort(key=lambda node: node.server.name != leading)
    store, got = await through(nodes[1], bucket), b""
    async with aclosing(store.read("room", LARGE_PLACE.blob, 0, len(LARGE))) as found:
        async for piece in found:
            if not got:
                nodes[0].server.kill()
            got += piece
    assert got == LARGE
    nodes[2].server.kill()
    async with asyncio.timeout(15):
        with pytest.raises(StorageUnavailable):
            await store.begin(PLACE, len(DATA))
    async with asyncio.timeout(WAIT):
        while True:
            try:
                await store.begin(PLACE, len(DATA))
            except NoQuorum:
                break
            except StorageUnavailable:
                continue
    await back(nodes)
    assert await settled(lambda: store.find("room", LARGE_PLACE.blob)) == held
    assert (await settled(lambda: store.begin(PLACE, len(DATA)))).received == 0


async def test_a_list_after_all_were_killed_lacks_nothing(nodes: list[Dial], bucket: str) -> None:
    store = await through(nodes[0], bucket)
    contents = [bytes([number]) * 1000 for number in range(30)]
    held = set()
    for data in contents:
        held.add(await stored(store, PLACE._replace(blob=b64u(sha256(data).digest())), data))
    await store.begin(LARGE_PLACE, len(LARGE))
    await store.receive(LARGE_PLACE, 0, blocks(LARGE[:MIB]))
    for node in nodes:
        node.server.kill()
    await back(nodes)
    for node in nodes:
        other = await through(node, bucket)
        uploads, blobs = await settled(other.survey)
        assert set(blobs) == held
        assert [upload.received for upload in uploads] == [MIB]
