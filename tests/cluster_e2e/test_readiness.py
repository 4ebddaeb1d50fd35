"""Where a balancer sends clients: to all nodes that can serve, whatever became of another one."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.support.cluster import WAIT, Cluster, ClusterNode, cluster

pytestmark = pytest.mark.slow


async def ready(found: Cluster, node: ClusterNode) -> tuple[int, str]:
    """Status and words of its `/readyz`."""
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=found.tls)) as session,
        session.get(f"{node.url}/readyz") as response,
    ):
        return response.status, (await response.text()).strip()


async def ready_where(found: Cluster, node: ClusterNode, status: int) -> str:
    """What its `/readyz` says once it answers with `status`."""
    async with asyncio.timeout(WAIT):
        while True:
            said = await ready(found, node)
            if said[0] == status:
                return said[1]
            await asyncio.sleep(0.02)


async def test_a_dead_node_makes_no_other_unready(tmp_path: Path) -> None:
    async with cluster(tmp_path) as made:
        await made.start()
        await made.found()
        n1, n2, n3 = made.nodes
        assert [await ready(made, node) for node in made.nodes] == [(200, "ready")] * 3
        await n3.kill()
        await made.until(lambda told: any("node n3 was last heard" in reason for reason in told["reasons"]), (n1, n2))
        assert [await ready_where(made, node, 200) for node in (n1, n2)] == ["ready"] * 2
        await n3.start()
        status, said = await ready(made, n3)
        assert (status, "ready" in said.splitlines()) == (503, False)  # it has not joined the others yet
        assert await ready_where(made, n3, 200) == "ready"
        ending = asyncio.create_task(n3.stop())
        assert "this node is about to end: use another one" in await ready_where(made, n3, 503)
        assert await ending == 0
        assert [await ready_where(made, node, 200) for node in (n1, n2)] == ["ready"] * 2
