"""A cluster that changes while people work: everything goes onto more nodes; a node is gone for good and replaced."""

import asyncio

import pytest

from tests.chaos.conftest import Stage
from tests.support.cluster import ClusterNode
from unibus.errors import RuleBroken

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


async def test_everything_goes_onto_three_nodes(stage: Stage) -> None:
    for node in stage.cluster.nodes:
        node.variables["UNIBUS_KV_REPLICAS"] = "1"

    async def scale() -> None:
        async with stage.cluster.enter("ada") as ada:
            await ada.api.keep_on(3)

    async def kept() -> None:
        await stage.cluster.until(lambda told: told["store"].get("ha") and told["status"] == "ok")
        await (await stage.cluster.leader()).kill()
        for node in stage.cluster.nodes:
            if node.running.process.returncode is not None:
                await node.start()

    await stage.play("from one copy to three, then kill -9 of the leader's node", scale, kept, hold=4.0)


async def test_a_node_is_gone_for_good_and_another_takes_its_place(stage: Stage) -> None:
    made = stage.cluster
    gone = made["n3"]

    async def lose() -> None:
        await gone.kill()

    async def replace() -> None:
        async with made.enter("ada", "n1") as ada:
            async with asyncio.timeout(30):
                while True:
                    try:
                        await ada.api.give_up("n3")
                        break
                    except RuleBroken:  # it was heard a moment ago
                        await asyncio.sleep(0.5)
        new = ClusterNode(made.base, [node.place for node in made.nodes], gone.place)
        new.name, new.data_dir, new.before = "n4", made.base / "n4", gone.before
        new.variables |= {"UNIBUS_NODE_NAME": "n4", "UNIBUS_DATA_DIR": str(new.data_dir)}
        made.nodes[2] = new
        await new.start()
        told = await made.until(lambda one: one["status"] == "ok" and one["store"]["current_replicas"] == 3)
        assert {node["name"] for node in told["n4"]["cluster"]["nodes"]} == {"n1", "n2", "n4"}

    await stage.play("a node is gone for good, and another comes", lose, replace)
