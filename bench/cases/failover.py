"""How long nothing is written after the leader of a cluster of three was killed, beside a bucket of the same kind.

Each time another node may lead; it is killed with `kill -9`, its nats-server with it, and is back before the next time.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
from nats.js.api import Header
from nats.js.client import JetStreamContext

from bench import promises
from bench.clusters import NODES, PlainCluster, plain_cluster, three_nodes
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.programs import fresh
from bench.stage import Stage
from unibus.cli.local_nodes import LocalNodes
from unibus.client.bus import Bus, connect
from unibus.client.founding import found_bus
from unibus.cluster.local import LocalNode, authority, data_dir
from unibus.crypto.identity import Identity
from unibus.daemon.data_dir import TOKEN
from unibus.errors import UnibusError

DEADLINE = 30.0  # seconds for one call of unibus's client, as its command line has it for a cluster
SHORT, AGAIN = 0.5, 0.1  # seconds for one raw try, and until the next
LOOK = 0.1
BUCKET = "raw"
VALUE = b"x" * 300

Attempt = Callable[[], Awaitable[bool]]


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case."""
    base, plain = fresh(stage.directory / "failover"), fresh(stage.directory / "plain-failover")
    async with three_nodes(base) as nodes, entered(base, nodes) as bus, plain_cluster(plain) as servers:
        await bucket(servers)
        numbers = itertools.count()
        yield Case(
            (
                Metric("leader killed, writes again", "s"),
                Metric("and the calls it took", "calls", "1"),
            ),
            (
                Side("unibus", promises.UNIBUS_FAILOVER, lambda: _unibus(nodes, bus, numbers)),
                Side("nats-py, KV create", promises.RAW_FAILOVER, lambda: _raw(servers, numbers)),
            ),
            rounds=plan.kills,
            seconds=120,
        )


@asynccontextmanager
async def entered(base: Path, nodes: LocalNodes) -> AsyncIterator[Bus]:
    """The founder of the bus on `nodes`, who knows all of them."""
    owner = Identity.from_secret(secrets.token_bytes(32))
    token = (data_dir(base, nodes.nodes[0]) / TOKEN).read_text().strip()
    await found_bus(nodes.nodes[0].url, owner, token, "owner", tls=nodes.tls)
    async with connect(nodes.url, owner, ca=authority(base), deadline=DEADLINE) as bus:
        yield bus


async def first_success(attempt: Attempt) -> Sample:
    """Seconds until an attempt succeeds, and how many were made."""
    begin = time.perf_counter()
    for number in itertools.count(1):
        if await attempt():
            return time.perf_counter() - begin, number
        await asyncio.sleep(AGAIN)
    raise AssertionError


async def _unibus(nodes: LocalNodes, bus: Bus, numbers: Iterator[int]) -> Sample:
    await nodes.well()
    leader = await _leader(nodes)

    async def admit() -> bool:
        try:
            await bus.admit(f"user-{next(numbers)}", Identity.from_secret(secrets.token_bytes(32)).card())
        except UnibusError:
            return False
        return True

    await nodes.kill(leader)
    try:
        return await first_success(admit)
    finally:
        await nodes.start(leader)


async def _leader(nodes: LocalNodes) -> LocalNode:
    """The node that leads the records."""
    while True:
        for node in nodes.nodes:
            told = await nodes.health(node)
            if told is not None and (name := told["store"].get("leader")) is not None:
                return next(node for node in nodes.nodes if node.name == name)
        await asyncio.sleep(LOOK)


async def bucket(cluster: PlainCluster) -> None:
    """Make the bucket, a copy of it on each server."""
    client = await nats.connect(cluster.servers["n1"].url, max_reconnect_attempts=1)
    try:
        await client.jetstream().create_key_value(bucket=BUCKET, replicas=NODES)
    finally:
        await client.close()


async def _raw(cluster: PlainCluster, numbers: Iterator[int]) -> Sample:
    """By way of a server that does not lead: who is connected to the leader has to connect anew first."""
    await cluster.start()
    leader = await _led(cluster)
    client = await nats.connect(next(server.url for name, server in cluster.servers.items() if name != leader))
    context = client.jetstream(timeout=SHORT)

    async def create() -> bool:
        subject, once = f"$KV.{BUCKET}.{next(numbers)}", {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: "0"}
        try:
            await context.publish(subject, VALUE, headers=once)
        except nats.errors.Error:
            return False
        return True

    try:
        await cluster.kill(leader)
        return await first_success(create)
    finally:
        await client.close()


async def _led(cluster: PlainCluster) -> str:
    """Which server leads the bucket, once all have all of it."""
    client = await nats.connect(cluster.servers["n1"].url, max_reconnect_attempts=1)
    try:
        context: JetStreamContext = client.jetstream()
        while True:
            group = (await context.stream_info(f"KV_{BUCKET}")).cluster
            if group and group.leader and all(peer.current for peer in group.replicas or ()):
                return group.leader
            await asyncio.sleep(LOOK)
    finally:
        await client.close()
