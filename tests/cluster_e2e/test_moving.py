"""A bus moves from a node that is alone into three, through one of them: none serves before all do, and all agree."""

import asyncio
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import options
from tests.support.cluster import Cluster, cluster
from tests.support.moved import Kept, goes_on, make, migrate
from tests.support.people import Place
from unibus.daemon.node import Node
from unibus.store.snapshot import read_snapshot

pytestmark = pytest.mark.slow

AGES = 61.0
"""Seconds after which no request from before can be used again, and all others are taken."""


async def filled(home: Path) -> Kept:
    """A bus on sqlite, whose daemon is stopped."""
    async with Node(options(home / "data")) as node:
        return await make(Place(f"http://127.0.0.1:{node.http_port}", home / "data"), home)


def written(made: Cluster, name: str) -> dict[str, list[tuple[int, bytes, dict[str, bytes]]]]:
    """All that stands in a node's own copy of the records, but for what nodes write of themselves."""
    kept = made[name].data_dir / "replica.sqlite3"
    copy = shutil.copytree(kept.parent, made.base / f"copy-of-{name}", ignore=shutil.ignore_patterns("nats", "run"))
    with read_snapshot(copy / kept.name, checked=True) as records:
        logs = [log for log, _, _ in records.heads() if not log.startswith("audit/n")]
        return {log: list(records.entries(log)) for log in logs}


async def test_a_bus_is_moved_into_three_nodes(tmp_path: Path) -> None:
    kept = await filled(tmp_path)
    async with cluster(tmp_path / "cluster") as made:
        await made.start()
        await asyncio.gather(*(node.running.heard("this bus has no users yet") for node in made.nodes))
        source = kept.copy(tmp_path / "source", stood_still_for=AGES)
        spent = made.token("n2").read_text()
        ran = await migrate(source, made["n2"].url, made.token("n2"), options=("--ca", str(made.ca)))
        assert (ran.status, ran.err) == (0, "")
        assert ran.json[0]["blobs"] == 1
        told = await made.until(lambda health: health["status"] == "ok" and health["founded"])
        assert all(health["store"]["replicas"] == 3 for health in told.values())
        assert not any(made.token(node.name).exists() for node in made.nodes)
        (tmp_path / "spent").write_text(spent)
        for since, node in enumerate(made.nodes):
            await goes_on(kept, node.url, tmp_path / f"members at {node.name}", made.ca, since=since)
            again = await migrate(source, node.url, tmp_path / "spent", options=("--ca", str(made.ca)))
            assert again.json == [{"bus": kept.bus, "to": node.url, "already": True}]
        await asyncio.gather(*(node.stop() for node in made.nodes))
        first, *others = [written(made, node.name) for node in made.nodes]
        assert all(other == first for other in others)
        assert first.keys() >= {"directory", "moves", f"audit/here@{kept.bus[:8]}"}
