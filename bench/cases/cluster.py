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
from bench.harness import Case, Metric, Side
from bench.plan import Plan
from bench.programs import free_ports, fresh, healthy, nats_child
from bench.stage import Stage
from unibus.cli.local_nodes import local_nodes
from unibus.client.bus import Bus, connect
from unibus.client.founding import found_bus
from unibus.client.trust import make_context
from unibus.cluster.local import LocalNode, authority, data_dir
from unibus.crypto.identity import Identity
from unibus.daemon.data_dir import TOKEN

NODES = 3
WRITERS = 20  # the nodes have their usual limits, which are for each user


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case. The first node is asked, whichever of them leads."""
    base, plain = fresh(stage.directory / "cluster"), fresh(stage.directory / "plain-cluster")
    async with writers(base) as buses, plain_cluster(plain) as client:
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
    ports = iter(free_ports(3 * NODES))
    nodes = [LocalNode(f"n{number}", *places) for number, places in enumerate(zip(ports, ports, ports, strict=True), 1)]
    async with local_nodes(base, nodes) as made, AsyncExitStack() as stack:
        for node in nodes:
            await made.start(node)
        await made.well()
        owner, *others = (Identity.from_secret(secrets.token_bytes(32)) for _ in range(WRITERS + 1))
        token = (data_dir(base, nodes[0]) / TOKEN).read_text().strip()
        url, ca = nodes[0].url, authority(base)
        await found_bus(url, owner, token, "owner", tls=make_context(ca))
        admin = await stack.enter_async_context(connect(url, owner, ca=ca))
        buses = []
        for number, other in enumerate(others):
            await admin.admit(f"writer-{number}", other.card())
            buses.append(await stack.enter_async_context(connect(url, other, ca=ca)))
        yield buses


@asynccontextmanager
async def plain_cluster(base: Path) -> AsyncIterator[Client]:
    """A client of the first of three nats-servers that sync before they acknowledge."""
    routes = free_ports(NODES)
    urls = [f"nats://127.0.0.1:{port}" for port in routes]
    async with AsyncExitStack() as stack:
        servers = []
        for number, port in enumerate(routes):
            where = base / str(number)
            settings = {
                "server_name": f"n{number}",
                "jetstream": {"store_dir": str(where), "sync_interval": "always"},
                "cluster": {"name": "plain", "host": "127.0.0.1", "port": port, "routes": urls},
            }
            servers.append(await stack.enter_async_context(nats_child(where, settings)))
        for server in servers:
            await healthy(f"http://127.0.0.1:{server.monitor}/healthz")
        client = await nats.connect(servers[0].url, max_reconnect_attempts=1)
        stack.push_async_callback(client.close)
        yield client
