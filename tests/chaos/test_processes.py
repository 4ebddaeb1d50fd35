"""Processes that are killed or stopped, one by one and together, while people work."""

import asyncio
import signal

import pytest

from tests.chaos.conftest import Stage
from tests.support.cluster import LEADERS, ClusterNode

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


@pytest.mark.parametrize("of", LEADERS)
async def test_the_node_of_a_leader_is_killed(stage: Stage, of: str) -> None:
    """The records, the messages, and the cluster itself may be led by different nodes."""
    await stage.cluster.start()
    node = await stage.cluster.leader(of)
    await stage.play(f"kill -9 of the node that leads the {of}", node.kill, node.start, started=True)


async def test_a_node_is_killed_that_does_not_lead_the_records(stage: Stage) -> None:
    await stage.cluster.start()
    node = stage.cluster.others((await stage.cluster.leader()).name)[0]
    await stage.play("kill -9 of another node", node.kill, node.start, started=True)


async def test_a_nats_server_is_killed(stage: Stage) -> None:
    await stage.cluster.start()
    leader = await stage.cluster.leader()

    async def kill() -> None:
        leader.kill_child()

    await stage.play("kill -9 of the leader's nats-server", kill, nothing, started=True)


async def test_all_nodes_are_killed_at_once(stage: Stage) -> None:
    async def kill() -> None:
        for node in stage.cluster.nodes:
            node.send(signal.SIGKILL)
        await asyncio.gather(*(node.kill() for node in stage.cluster.nodes))

    async def start() -> None:
        await asyncio.gather(*(node.start() for node in stage.cluster.nodes))

    await stage.play("kill -9 of all nodes at once", kill, start, hold=2.0)


@pytest.mark.parametrize("leads", [True, False], ids=["the leader's node", "another node"])
async def test_a_node_hangs_for_ten_seconds(stage: Stage, *, leads: bool) -> None:
    await stage.cluster.start()
    leader = await stage.cluster.leader()
    node: ClusterNode = leader if leads else stage.cluster.others(leader.name)[0]

    async def freeze() -> None:
        node.send(signal.SIGSTOP)

    async def thaw() -> None:
        node.send(signal.SIGCONT)

    what = "the leader's node" if leads else "another node"
    await stage.play(f"{what} hangs for 10 s (SIGSTOP)", freeze, thaw, hold=10.0, started=True)


async def test_a_node_is_wiped_and_comes_back(stage: Stage) -> None:
    node = stage.cluster["n3"]

    async def wipe() -> None:
        await node.kill()
        node.wipe()

    await stage.play("a node is wiped and comes back", wipe, node.start)


async def nothing() -> None:
    """What mends itself."""
