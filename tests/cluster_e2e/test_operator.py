"""From one copy to three with a stock NATS client, under load: nothing fails or is lost, and all daemons go along."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path

import nats
import pytest
from nats.js import JetStreamContext
from nats.js.errors import APIError

from tests.cluster_e2e.test_three_nodes import admit_some
from tests.e2e.load import each_once_and_in_order, post
from tests.support.cluster import Cluster, Health, cluster
from tests.support.people import tail
from unibus.bus.cluster_watch import BLOBS, RECORDS
from unibus.crypto.nkeys import SigningKey, encode_seed
from unibus.model.subjects import STREAM

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

MESSAGES = 6_000
STREAMS = {STREAM, RECORDS, BLOBS}


@asynccontextmanager
async def stock(made: Cluster, node: str, operator: SigningKey) -> AsyncIterator[JetStreamContext]:
    """A stock client at `node` with the operator's key."""
    url = f"tls://127.0.0.1:{made[node].place.nats_port}"
    seed = encode_seed("U", operator.seed)
    client = await nats.connect(url, tls=made.tls, nkeys_seed_str=seed, allow_reconnect=False)
    try:
        yield client.jetstream()
    finally:
        await client.close()


def copies(told: Health) -> dict[str, int]:
    """On how many nodes each stream is, as a node says."""
    return {name: one["replicas"] for name, one in told["cluster"]["streams"].items()}


def available(told: Health) -> bool:
    """Whether a node says that everything outlives the loss of one."""
    return bool(told["status"] == "ok" and told["store"]["ha"] and told["cluster"]["ha"])


async def test_a_stock_client_has_everything_kept_on_three_nodes_under_load(tmp_path: Path) -> None:
    operator = SigningKey.from_seed(os.urandom(32))
    content = os.urandom(3_000_000)
    async with cluster(tmp_path / "cluster") as made:
        for node in made.nodes:
            node.variables["UNIBUS_KV_REPLICAS"] = "1"
        made["n2"].variables["UNIBUS_NATS_OPERATOR"] = operator.public  # it need not be the same on all nodes
        await made.start()
        assert {name: one["bus"]["operator"] for name, one in (await made.well()).items()} == {
            "n1": False,
            "n2": True,
            "n3": False,
        }
        await made.found("bob")
        async with AsyncExitStack() as stack:
            ada = await stack.enter_async_context(made.enter("ada", "n1"))
            bob = await stack.enter_async_context(made.enter("bob", "n3"))
            room = await ada.create_room("growing")
            await room.add("bob")
            blob = await room.put_blob(BytesIO(content), "a file")
            alone = await made.until(lambda told: set(copies(told)) == STREAMS)
            assert [copies(told) for told in alone.values()] == [dict.fromkeys(STREAMS, 1)] * 3
            assert not any(told["store"]["ha"] or told["cluster"]["ha"] for told in alone.values())
            reading = await stack.enter_async_context(tail(await bob.room("growing")))
            over = asyncio.Event()
            admitting = asyncio.create_task(admit_some(ada, over))
            posting = asyncio.create_task(post(room, MESSAGES))
            await reading.until(MESSAGES // 10)
            tool = await stack.enter_async_context(stock(made, "n2", operator))
            for name in sorted(STREAMS):
                found = await tool.stream_info(name)
                raised = await tool.update_stream(found.config, num_replicas=3)
                assert (found.config.num_replicas, raised.config.num_replicas) == (1, 3)
            acknowledged = await posting
            over.set()
            admitted = await admitting
            await made.until(available)
            await reading.until(MESSAGES)
            each_once_and_in_order(acknowledged, reading)
            found = await tool.stream_info(BLOBS)
            with pytest.raises(APIError, match="kept on 3 nodes now"):
                await tool.update_stream(found.config, num_replicas=1)
            asked = await stack.enter_async_context(made.enter("ada", "n2", only=True))
            trail = [one for one in (await asked.api.audit(0, 0)).entries if one.action == "bus.scale"]
            assert {(one.actor, one.target, one.origin, one.facts["replicas"]) for one in trail} == {
                (operator.public, name, "127.0.0.1", 3) for name in STREAMS
            }
        (await made.leader()).kill_child()
        await made["n3"].stop()
        await made["n3"].start()  # told to keep all on one node, as before
        told = await made.until(available)
        assert [copies(one) for one in told.values()] == [dict.fromkeys(STREAMS, 3)] * 3
        async with made.enter("bob", "n3", only=True) as bob:
            room = await bob.room("growing")
            assert {user.handle for user in await bob.users()} >= set(admitted)
            await room.get_blob(blob, tmp_path / "copy")
            async with tail(room) as again:
                await again.until(MESSAGES)
                each_once_and_in_order(acknowledged, again)
    assert (tmp_path / "copy").read_bytes() == content
