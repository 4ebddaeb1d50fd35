"""A large blob through a daemon that the kernel holds to 200 MB.

All that it may have as data of its own (RLIMIT_DATA: heap, stacks, private mappings) is limited while it runs, and what
it had resident at the most is looked at too. 256 MiB in every run; `make test-large` runs 2 GiB.
"""

import asyncio
import hashlib
import os
import re
import resource
from pathlib import Path

import pytest

from tests.e2e.conftest import StartDaemon
from tests.support.people import Place

LIMIT = 200_000_000


def written(path: Path, size: int) -> str:
    """Make a file of `size` bytes that no compression shortens; its hash."""
    block, hasher = os.urandom(2**20), hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size // len(block)):
            data = number.to_bytes(8, "big") + block[8:]
            file.write(data)
            hasher.update(data)
    return hasher.hexdigest()


def most_memory(pid: int) -> int:
    """The most bytes that the process ever had in memory (proc(5), VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def through(start_daemon: StartDaemon, tmp_path: Path, size: int) -> int:
    """Store and fetch `size` bytes by way of a daemon; the most memory it had."""
    daemon = await start_daemon("--blob-quota-user", "20G")
    resource.prlimit(daemon.process.pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
    place = Place(daemon.url, daemon.data_dir)
    await place.found("bob")
    source, target = tmp_path / "source", tmp_path / "target"
    digest = await asyncio.to_thread(written, source, size)
    async with place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        blob = await room.put_blob(source, "large")
        source.unlink()
        await (await bob.room("ops")).get_blob(blob, target)
        await room.delete_blob(blob)
    with target.open("rb") as file:
        assert (await asyncio.to_thread(hashlib.file_digest, file, "sha256")).hexdigest() == digest
    target.unlink()
    return most_memory(daemon.process.pid)


async def test_a_quarter_of_a_gibibyte(start_daemon: StartDaemon, tmp_path: Path) -> None:
    assert await through(start_daemon, tmp_path, 256 * 2**20) < LIMIT


@pytest.mark.large
@pytest.mark.timeout(600)
async def test_two_gibibytes(start_daemon: StartDaemon, tmp_path: Path) -> None:
    assert await through(start_daemon, tmp_path, 2 * 2**30) < LIMIT
