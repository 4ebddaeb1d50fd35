"""The KV engine on three real servers while things go wrong: who wins, what is kept, and what is refused meanwhile."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from tests.store.kv_servers import WAIT, Server, jetstream, node, running
from unibus.errors import NoQuorum, StorageUnavailable
from unibus.store.kv import KvStore
from unibus.store.port import Append, Entry, PositionTaken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    with running(tmp_path_factory.mktemp("cluster"), 3) as started:
        yield started


@pytest.fixture
async def bucket(servers: list[Server]) -> AsyncIterator[str]:
    name = uuid4().hex
    yield name
    await jetstream(servers[0], f"STREAM.DELETE.KV_{name}")


@pytest.fixture
async def stores(servers: list[Server], bucket: str, tmp_path: Path) -> AsyncIterator[list[KvStore]]:
    """One store a server."""
    async with AsyncExitStack() as ending:
        yield [
            await ending.enter_async_context(node(server, tmp_path / server.name, bucket, replicas=3))
            for server in servers
        ]


async def leader(servers: list[Server], bucket: str) -> Server:
    info = await jetstream(servers[0], f"STREAM.INFO.KV_{bucket}")
    return next(server for server in servers if server.name == info["cluster"]["leader"])


async def keep_appending(store: KvStore, mark: str, enough: asyncio.Event) -> list[bytes]:
    """Append until it is enough, each value until it is acknowledged; the values in their order."""
    acknowledged: list[bytes] = []
    while not enough.is_set():
        value = f"{mark} {len(acknowledged)}".encode()
        async with asyncio.timeout(2 * WAIT):
            while True:
                try:
                    last = await store.last("log")
                    if last is not None and await holds(store, value):
                        break  # it was unknown whether it had been done
                    await store.append(Append("log", last.position + 1 if last else 1, value))
                    break
                except PositionTaken:
                    pass
                except StorageUnavailable:
                    await asyncio.sleep(0.02)
        acknowledged.append(value)
    return acknowledged


async def holds(store: KvStore, value: bytes) -> bool:
    last = await store.last("log")
    assert last is not None
    return value in [entry.value for entry in await store.entries("log", last.position - 50, 100)]


async def test_appends_racing_through_three_nodes_fill_each_place_once(stores: list[KvStore]) -> None:
    for position in range(1, 11):
        outcomes = await asyncio.gather(
            *(store.append(Append("log", position, f"{n}".encode())) for n, store in enumerate(stores)),
            return_exceptions=True,
        )
        (winner,) = [n for n, outcome in enumerate(outcomes) if outcome is None]
        for store in stores:
            await store.sync()
            assert await store.last("log") == Entry(position, f"{winner}".encode())


async def test_a_claim_raced_through_three_nodes_has_one_winner(stores: list[KvStore]) -> None:
    for n in range(50):
        claimed = await asyncio.gather(*(store.claim(f"nonce {n}", int(time.time()) + 60) for store in stores))
        assert sum(claimed) == 1


def note(told: list[tuple[str, int]], log: str, position: int) -> None:
    told.append((log, position))


async def test_each_node_hears_of_all_in_order_and_of_the_others(stores: list[KvStore]) -> None:
    heard: list[list[tuple[str, int]]] = [[] for _ in stores]
    for store, told in zip(stores, heard, strict=True):
        store.heard(partial(note, told))
    for position in range(1, 7):
        await stores[position % 3].sync()
        await stores[position % 3].append(Append("log", position, b"v"))
    for store in stores:
        await store.sync()
    assert heard == [[("log", position) for position in range(1, 7)]] * 3
    nodes = stores[0].nodes()
    assert {name: beat.value for name, beat in nodes.items()} == {f"n{n}": f"beat of n{n}".encode() for n in range(3)}
    assert all(abs(beat.at - time.time()) < WAIT for beat in nodes.values())


async def test_what_was_claimed_through_one_node_orders_what_another_reads(stores: list[KvStore]) -> None:
    for position in range(1, 21):
        await stores[0].append(Append("log", position, b"v"))
        assert await stores[1].claim(f"read {position}", int(time.time()) + 60)
        last = await stores[1].last("log")
        assert last is not None
        assert last.position == position


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_nothing_acknowledged_is_lost_with_the_leader(
    servers: list[Server], bucket: str, stores: list[KvStore], fault: signal.Signals
) -> None:
    enough = asyncio.Event()
    dead = await leader(servers, bucket)
    writers = [
        asyncio.create_task(keep_appending(store, server.name, enough))
        for store, server in zip(stores, servers, strict=True)
    ]
    await asyncio.sleep(0.3)
    dead.send(fault)
    survivor = stores[(servers.index(dead) + 1) % 3]
    more = asyncio.Event()
    after = await survivor.last("log")
    assert after is not None
    survivor.heard(lambda _log, position: more.set() if position > after.position + 20 else None)
    async with asyncio.timeout(WAIT):
        await more.wait()
    if fault == signal.SIGKILL:
        dead.start()
    else:
        dead.send(signal.SIGCONT)  # it still takes itself for the leader
    async with asyncio.timeout(WAIT):
        await stores[servers.index(dead)].wait_current()
    enough.set()
    acknowledged = await asyncio.gather(*writers)
    logs = []
    for store in stores:
        await store.sync()
        logs.append(await store.entries("log", 0, 100_000))
    assert logs[0] == logs[1] == logs[2]
    assert [entry.position for entry in logs[0]] == [*range(1, len(logs[0]) + 1)]
    for server, values in zip(servers, acknowledged, strict=True):
        assert [entry.value for entry in logs[0] if entry.value.startswith(server.name.encode())] == values


async def test_without_a_majority_nothing_is_answered_and_quickly(
    servers: list[Server], bucket: str, tmp_path: Path
) -> None:
    async with node(servers[0], tmp_path / "replica", bucket, replicas=3, lease=1.0) as store:
        await store.append(Append("log", 1, b"v"))
        try:
            for server in servers[1:]:
                server.send(signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(StorageUnavailable):
                await store.append(Append("log", 2, b"w"))
            with pytest.raises(StorageUnavailable):
                await store.claim("nonce", 2**40)
            with pytest.raises(StorageUnavailable):
                await store.sync()
            assert time.monotonic() - began < 7.0
            assert "cluster" in str(store.current())
            for attempt in (store.last("log"), store.logs("", "", 1), store.counts(""), store.marks("", "", 1)):
                with pytest.raises(NoQuorum):
                    await attempt
            posture = await store.posture()
            assert posture["quorum"] is False
            assert posture["reasons"]
        finally:
            for server in servers[1:]:
                server.send(signal.SIGCONT)
        async with asyncio.timeout(WAIT):
            await store.wait_current()
        await store.sync()
        assert (await store.entries("log", 0, 1)) == [Entry(1, b"v")]


async def test_replicas_are_raised_in_place_under_load(servers: list[Server], bucket: str, tmp_path: Path) -> None:
    async with node(servers[0], tmp_path / "first", bucket) as store:
        assert (await store.posture())["ha"] is False
        enough = asyncio.Event()
        writing = asyncio.create_task(keep_appending(store, "w", enough))
        await asyncio.sleep(0.2)
        config = (await jetstream(servers[0], f"STREAM.INFO.KV_{bucket}"))["config"]
        raised = await jetstream(servers[0], f"STREAM.UPDATE.KV_{bucket}", {**config, "num_replicas": 3})
        assert raised["config"]["num_replicas"] == 3
        await all_current(store)
        async with node(servers[1], tmp_path / "second", bucket, replicas=1) as other:
            enough.set()
            values = await writing
            await other.sync()
            assert [entry.value for entry in await other.entries("log", 0, 100_000)] == values
            posture = await all_current(other)
            assert (posture["replicas"], posture["ha"], posture["quorum"], posture["reasons"]) == (3, True, True, [])


async def all_current(store: KvStore) -> Mapping[str, object]:
    """The posture, once all three replicas have everything."""
    async with asyncio.timeout(WAIT):
        while (posture := await store.posture()).get("current_replicas") != 3:  # noqa: ASYNC110 - no event is sent
            await asyncio.sleep(0.05)
    return posture
