"""A running cluster is changed by an admin: more copies, and never by anybody else nor to anything weaker."""

import subprocess
from pathlib import Path

import pytest

from tests.builders import identity
from tests.cli.commands import UNIBUS
from tests.support.cluster import Cluster, cluster
from unibus.client.identity_file import keep_identity
from unibus.errors import Forbidden, NotFound, RuleBroken

pytestmark = pytest.mark.slow


def scale(made: Cluster, ada: Path, replicas: str) -> subprocess.CompletedProcess[str]:
    """`unibus cluster scale` as ada types it."""
    command = [UNIBUS, "--ca", made.ca, "--url", made.urls("n2"), "--identity", ada, "cluster", "scale"]
    words = [*map(str, command), "--replicas", replicas]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)


async def test_everything_is_kept_on_more_nodes_and_no_node_that_is_there_is_given_up(tmp_path: Path) -> None:
    async with cluster(tmp_path / "cluster") as made:
        for node in made.nodes:
            node.variables["UNIBUS_KV_REPLICAS"] = "1"
        await made.start()
        await made.found("bob")
        told = (await made.nodes[0].health())["store"]
        assert (told["replicas"], told["ha"]) == (1, False)
        async with made.enter("bob") as bob:
            for refused in (bob.api.keep_on(3), bob.api.give_up("n3")):
                with pytest.raises(Forbidden):
                    await refused
        keep_identity(identity("ada"), tmp_path / "ada.nk")
        assert scale(made, tmp_path / "ada.nk", "3").returncode == 0
        await made.until(lambda one: one["status"] == "ok" and one["store"]["ha"] and one["cluster"]["ha"])
        async with made.enter("ada") as ada:
            await ada.api.keep_on(3)
            with pytest.raises(RuleBroken, match="the cluster has 3 nodes"):
                await ada.api.keep_on(5)
            with pytest.raises(RuleBroken, match="kept on 3 nodes now"):
                await ada.api.keep_on(1)
            with pytest.raises(RuleBroken, match="n3 is there"):
                await ada.api.give_up("n3")
            with pytest.raises(NotFound, match="n7"):
                await ada.api.give_up("n7")
            room = await ada.create_room("kept")
            await (await made.leader()).kill()
            await room.send("still there")
