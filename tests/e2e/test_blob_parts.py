"""Parts of a blob that are on their way at once: a node that takes one at a time, and `kill -9` between them."""

import os
import struct
from pathlib import Path

import pytest

from tests.e2e.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.people import Place
from tests.support.refusing import PartsSeen, parts_seen
from unibus.client.blob_source import PART

SIZE = 6 * PART


@pytest.fixture
async def daemon(start_daemon: StartDaemon) -> Daemon:
    daemon = await start_daemon()
    await Place(daemon.url, daemon.data_dir).found()
    return daemon


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(SIZE))
    return path


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same bytes."""
    return one.read_bytes() == other.read_bytes()


async def store_and_fetch(seen: PartsSeen, source: Path) -> Path:
    """Store a blob by way of `seen` and fetch it again."""
    place, target = Place(seen.url, source.parent), source.with_name("target")
    async with place.enter("ada") as ada:
        room = await ada.create_room("ops")
        blob = await room.put_blob(source, "x")
        assert [found.id for found in await room.blobs()] == [blob]
        await room.get_blob(blob, target)
    return target


async def test_a_node_that_refuses_parts_that_come_early_gets_one_at_a_time(daemon: Daemon, source: Path) -> None:
    async with parts_seen(daemon.url, early=False) as seen:
        target = await store_and_fetch(seen, source)
    assert same(target, source)
    assert (seen.most, seen.answered > SIZE) == (1, True)
    assert 1 <= seen.refused <= 4  # of each of two attempts, what was on its way; then it waits for each answer


async def test_a_node_killed_between_parts_keeps_what_it_acknowledged(
    daemon: Daemon, start_daemon: StartDaemon, source: Path
) -> None:
    binds = f"--http-bind=127.0.0.1:{daemon.http_port}", f"--nats-bind=127.0.0.1:{daemon.nats_port}"
    kills: list[tuple[int, int]] = []
    async with parts_seen(daemon.url) as seen:
        running = daemon

        async def kill(others: int) -> None:
            nonlocal running
            if others and len(kills) < 2:
                acknowledged = seen.answered
                kills.append((acknowledged, others))
                await running.kill()
                (progress,) = (daemon.data_dir / "blobs" / "uploads").glob("*/progress")
                _, received = struct.unpack(">QQ", progress.read_bytes())
                kept.append((received, (progress.parent / "data").stat().st_size))
                running = await start_daemon(*binds)

        kept: list[tuple[int, int]] = []
        seen.acknowledged = kill
        target = await store_and_fetch(seen, source)
    assert same(target, source)
    assert len(kills) == 2
    for (acknowledged, _), (received, there) in zip(kills, kept, strict=True):
        assert acknowledged <= received <= there
