"""Signed records a second that a cluster of three takes, beside what its kind of bucket takes without anything else.

All six servers share this one machine: what each of three hosts could do is more.
"""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats
from nats.aio.client import Client

from bench import promises
from bench.cases.appends import creates, unibus
from bench.clusters import NODES, plain_cluster, three_nodes
from bench.harness import Case, Metric, Side
from bench.plan import Plan
from bench.programs import fresh
from bench.stage import Stage
from unibus.client.bus import Bus, connect
from unibus.client.founding import found_bus
from unibus.client.trust import make_context
from unibus.cluster.local import authority, data_dir
from unibus.crypto.identity import Identity
from unibus.daemon.data_dir import TOKEN

WRITERS = 20  # the nodes have their usual limits, which are for each user


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case. The first node is asked, whichever of them leads."""
    base, plain = fresh(stage.directory / "cluster"), fresh(stage.directory / "plain-cluster")
    async with writers(base) as buses, raw_client(plain) as client:
        tls = make_context(authority(base))
        raw = await creates(client, plan.appends, NODES)
        yield Case(
            (Metric("signed append, kv of three", "records/s"),),
            (
                Side("unibus", promises.UNIBUS_MAJORITY, unibus(buses, plan.appends, tls)),
                Side("nats-py, KV create", promises.RAW_MAJORITY, raw, (">= 0.7",)),
            ),
            rounds=plan.long_rounds,
            seconds=120,
        )


@asynccontextmanager
async def writers(base: Path) -> AsyncIterator[Sequence[Bus]]:
    """Users of a cluster with its files in `base`, who ask its first node."""
    async with three_nodes(base) as made, AsyncExitStack() as stack:
        owner, *others = (Identity.from_secret(secrets.token_bytes(32)) for _ in range(WRITERS + 1))
        first, ca = made.nodes[0], authority(base)
        token = (data_dir(base, first) / TOKEN).read_text().strip()
        await found_bus(first.url, owner, token, "owner", tls=made.tls)
        admin = await stack.enter_async_context(connect(first.url, owner, ca=ca))
        buses = []
        for number, other in enumerate(others):
            await admin.admit(f"writer-{number}", other.card())
            buses.append(await stack.enter_async_context(connect(first.url, other, ca=ca)))
        yield buses


@asynccontextmanager
async def raw_client(base: Path) -> AsyncIterator[Client]:
    """A client of the first of three nats-servers that sync before they acknowledge."""
    async with plain_cluster(base) as made:
        client = await nats.connect(made.servers["n1"].url, max_reconnect_attempts=1)
        try:
            yield client
        finally:
            await client.close()
