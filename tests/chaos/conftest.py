"""What each way to break a cluster is given: three nodes on the tests' own network, people at work, a stopwatch."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.history import MESSAGES, faults, longest_wait
from tests.chaos.network import Network
from tests.chaos.workload import workload
from tests.support.cluster import Cluster, cluster
from unibus.model.records import DIRECTORY

STEADY = 2.0
"""Seconds of ordinary work before a fault and after it."""
WELL_WITHIN = 100.0
_RESULTS: list[tuple[str, ...]] = []
HEAD = ("what happened", "longest wait for a message", "for a record", "well again after", "writes")


@dataclass
class Stage:
    """A cluster on `network`, none of whose nodes has started."""

    network: Network
    cluster: Cluster

    async def play(
        self,
        title: str,
        break_it: Callable[[], Awaitable[None]],
        mend: Callable[[], Awaitable[None]],
        *,
        hold: float = 8.0,
        started: bool = False,
    ) -> None:
        """Have people work, break something, have dave removed meanwhile, mend it, and read the history."""
        if not started:
            await self.cluster.start()
        async with workload(self.cluster) as load:
            await asyncio.sleep(STEADY)
            since = time.monotonic()
            await break_it()
            removing = asyncio.create_task(load.remove_dave())
            await asyncio.sleep(max(0.0, hold - (time.monotonic() - since)))
            mended = time.monotonic()
            await mend()
            await self.cluster.well(WELL_WITHIN)
            well = time.monotonic() - mended
            await removing
            await asyncio.sleep(STEADY)
            until = time.monotonic()
            history = await load.finish()
            shown = {node.name: await load.shown(node.name) for node in self.cluster.nodes}
        waits = [f"{longest_wait(history, where, since, until):.1f} s" for where in (MESSAGES, DIRECTORY)]
        _RESULTS.append((title, *waits, f"{well:.1f} s", str(len(history.written))))
        found = faults(history, shown)
        assert not found, "\n".join(found[:20])
        assert history.accepted


@pytest.fixture(scope="session")
def network() -> Network:
    """Three places for nodes, that see each other."""
    made = Network(["n1", "n2", "n3"])
    made.make()
    return made


@pytest.fixture
async def stage(network: Network, tmp_path: Path) -> AsyncIterator[Stage]:
    """A cluster that was not started, on a network that is whole. What its nodes said stays beside their data."""
    async with cluster(tmp_path / "nodes", network.places()) as made:
        for node in made.nodes:
            node.before = network.inside(node.name)
        yield Stage(network, made)
        network.heal()
        for node in made.nodes:
            (tmp_path / f"{node.name}.log").write_text("".join(life.said for life in node.lives))


@pytest.fixture
def tell() -> Callable[..., None]:
    """Adds a line to what is printed in the end."""
    return lambda *cells: _RESULTS.append(tuple(map(str, cells)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Overlook a socket that aiohttp drops when a connection comes about just as the time for it is over."""
    for item in items:
        if item.get_closest_marker("chaos"):
            only = r"ignore:Exception ignored in. <socket\.socket:pytest.PytestUnraisableExceptionWarning"
            item.add_marker(pytest.mark.filterwarnings(only))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    if _RESULTS:
        terminalreporter.section("what each fault cost")
        rows = [HEAD, *(row + ("",) * (len(HEAD) - len(row)) for row in _RESULTS)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        for row in rows:
            terminalreporter.line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
