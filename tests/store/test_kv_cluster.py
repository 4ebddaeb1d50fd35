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
import structlog
from nats.aio.client import Client

from tests.store.kv_servers import WAIT, Server, jetstream, node, running
from unibus.errors import NoQuorum, StorageUnavailable
from unibus.store.kv import KvStore
from unibus.store.kv_bucket import NO_QUORUM
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
        since: int | None = None
        async with asyncio.timeout(2 * WAIT):
            while True:
                try:
                    last = await store.last("log")
                    length = last.position if last else 0
                    since = length if since is None else since
                    if value in [entry.value for entry in await store.entries("log", since, length)]:
                        break  # it was unknown whether it had been done
                    await store.append(Append("log", length + 1, value))
                    break
                except PositionTaken:
                    pass
                except StorageUnavailable:
                    await asyncio.sleep(0.02)
        acknowledged.append(value)
    return acknowledged


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


def note(told: list[tuple[str, int]], log: str, position: int, _value: bytes) -> None:
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
    survivor.heard(lambda _log, position, _value: more.set() if position > after.position + 20 else None)
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


async def test_a_node_alone_tries_again_without_hurry_and_says_why_once(servers: list[Server], tmp_path: Path) -> None:
    said: list[str] = []
    dialled: list[float] = []

    def note(_logger: object, _level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        said.append(event["reason"])
        raise structlog.DropEvent

    async def dial() -> Client:
        dialled.append(time.monotonic())
        return await servers[0].dial()

    log = structlog.wrap_logger(structlog.PrintLogger(), [note], wrapper_class=structlog.make_filtering_bound_logger(0))
    try:
        for server in servers[1:]:
            server.send(signal.SIGKILL)
        async with node(servers[0], tmp_path / "replica", uuid4().hex, dial=dial, log=log, current=False):
            await asyncio.sleep(6)
    finally:
        for server in servers[1:]:
            server.start()
        await jetstream(servers[0], "INFO")
    assert said.count(NO_QUORUM) == 1
    assert 2 < len(dialled) < 15


async def test_a_leader_that_nobody_answers_is_given_little_that_it_may_have_to_undo(
    servers: list[Server], bucket: str, stores: list[KvStore]
) -> None:
    """nats-server undoes what it noted down alone entry by entry, up to 2 s for each."""
    alone = await leader(servers, bucket)
    before = (await jetstream(alone, f"STREAM.INFO.KV_{bucket}"))["state"]["last_seq"]
    others = [server for server in servers if server is not alone]
    store = stores[servers.index(alone)]
    try:
        for server in others:
            server.send(signal.SIGSTOP)
        asked = []
        for number in range(200):
            asked.append(asyncio.create_task(store.claim(f"alone {number}", 2**40)))
            await asyncio.sleep(0.005)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        for server in others:
            server.send(signal.SIGCONT)
    assert {type(outcome) for outcome in outcomes} == {StorageUnavailable, NoQuorum}
    async with asyncio.timeout(WAIT):
        await asyncio.gather(*(each.wait_current() for each in stores))
    written = (await jetstream(alone, f"STREAM.INFO.KV_{bucket}"))["state"]["last_seq"] - before
    assert written < 60  # the others were told that nothing was done, and nothing was


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
