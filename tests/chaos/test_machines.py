"""What happens to machines: clocks apart, full disks, power cuts, while people work."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.conftest import Stage
from tests.chaos.network import fill, mounted, run
from tests.support.cluster import ClusterNode

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
IMAGE = 256 * 2**20


@pytest.fixture
def mounts() -> Iterator[ExitStack]:
    """Takes what is mounted, for as long as the test lasts. Asked for before the stage, it outlasts the daemons."""
    with ExitStack() as stack:
        yield stack


async def test_clocks_are_apart(stage: Stage, tmp_path: Path) -> None:
    """One node's clock is put 45 s ahead and another's 45 s back, which is 90 s apart, while they run."""
    clocks = {}
    for node in stage.cluster.nodes[1:]:
        clocks[node.name] = tmp_path / f"clock-of-{node.name}"
        clocks[node.name].write_text("+0")
        node.variables |= {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clocks[node.name]),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    async def part() -> None:
        clocks["n2"].write_text("+45")
        clocks["n3"].write_text("-45")

    async def agree() -> None:
        for clock in clocks.values():
            clock.write_text("+0")

    await stage.play("clocks 45 s ahead and 45 s behind", part, agree)


async def test_a_disk_is_full(mounts: ExitStack, stage: Stage) -> None:
    node = stage.cluster["n3"]
    mounts.enter_context(mounted("-t", "tmpfs", "-o", "size=256m,mode=700", "tmpfs", at=node.data_dir))
    filler: list[Path] = []

    async def fill_it() -> None:
        filler.append(fill(node.data_dir))

    async def make_room() -> None:
        filler[0].unlink()

    await stage.play("a full disk on one node", fill_it, make_room, hold=10.0)


class Disk:
    """The ext4 disk of a node, in a file that can be copied as it is at any moment, without what was not synced."""

    def __init__(self, node: ClusterNode, images: Path) -> None:
        self._node = node
        self._image, self._copy = images / f"{node.name}.image", images / f"{node.name}.copy"
        with self._image.open("wb") as file:
            file.truncate(IMAGE)
        run("mkfs.ext4", "-q", "-F", self._image)

    def attach(self, mounts: ExitStack) -> None:
        """Give it to the node."""
        mounts.enter_context(mounted("-o", "loop", self._image, at=self._node.data_dir))
        self._node.data_dir.chmod(0o700)

    def copy(self) -> None:
        """Take it as it is now."""
        run("cp", "--sparse=always", self._image, self._copy)

    def go_back(self, mounts: ExitStack) -> None:
        """Give the node what was copied, in the place of what it had."""
        mounts.enter_context(mounted("-o", "loop", self._copy, at=self._node.data_dir))


@pytest.mark.parametrize("names", [["n1"], ["n1", "n2", "n3"]], ids=["of one node", "of all nodes"])
async def test_the_power_goes(mounts: ExitStack, stage: Stage, tmp_path: Path, names: list[str]) -> None:
    """All stop at one moment, and their disks are what was written by then: what was not synced is gone."""
    nodes = [stage.cluster[name] for name in names]
    disks = [Disk(node, tmp_path) for node in nodes]
    for disk in disks:
        disk.attach(mounts)

    async def cut() -> None:
        for node in nodes:
            node.send(signal.SIGSTOP)
        for disk in disks:
            disk.copy()
        await asyncio.gather(*(node.kill() for node in nodes))
        for disk in disks:
            disk.go_back(mounts)

    async def start() -> None:
        await asyncio.gather(*(node.start() for node in nodes))

    title = "power cut of all nodes" if len(nodes) > 1 else "power cut of one node"
    await stage.play(title, cut, start, hold=2.0)
