"""The stream as a file and back: every frame in its place, also after gaps, and nobody at the private server."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.bus.stage import OTHER_ROOM, Logbook, Stage, TablePolicy
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.bus.private import private_server, restore_stream
from unibus.errors import BackupInvalid, BusUnavailable
from unibus.services.ports import StreamState

ROOM = "c" * 26
Shape = Callable[[Stage], Awaitable[None]]


async def restored(tmp_path: Path, state: StreamState) -> None:
    """Put the snapshot in `tmp_path` into a new data directory beside it."""
    (tmp_path / "again").mkdir()
    options = BusOptions(tmp_path / "again", port=0)
    await restore_stream(options, tmp_path / "snapshot", state, os.urandom, Logbook().logger)


async def nothing(_stage: Stage) -> None:
    """No frame was ever sent."""


async def purged(stage: Stage) -> None:
    """Everything was sent, and then dropped."""
    async with stage.connect(stage.member(ROOM)) as member:
        for _ in range(10):
            await member.publish(ROOM)
    await stage.plane.retain(ROOM, None, 0)


async def with_gaps(stage: Stage) -> None:
    """Of two rooms, one was dropped."""
    async with stage.connect(stage.member(ROOM, OTHER_ROOM)) as member:
        for _ in range(10):
            await member.publish(ROOM)
            await member.publish(OTHER_ROOM, os.urandom(1000))
    await stage.plane.retain(OTHER_ROOM, None, 0)


async def large(stage: Stage) -> None:
    """Many chunks."""
    async with stage.connect(stage.member(ROOM)) as member:
        await asyncio.gather(*(member.publish(ROOM, os.urandom(100_000)) for _ in range(100)))


@pytest.mark.parametrize("shape", [nothing, purged, with_gaps, large])
async def test_a_stream_comes_back_as_it_was(stage: Stage, tmp_path: Path, shape: Shape) -> None:
    await shape(stage)
    state = await stage.plane.snapshot(tmp_path / "snapshot")
    await restored(tmp_path, state)
    plane = BusPlane(BusOptions(tmp_path / "again", port=0), TablePolicy(), Logbook().logger)
    await plane.start()
    try:
        again = await plane.snapshot(tmp_path / "second")
    finally:
        await plane.stop()
    assert again == state


async def test_a_file_that_is_no_snapshot_is_refused(stage: Stage, tmp_path: Path) -> None:
    await large(stage)
    state = await stage.plane.snapshot(tmp_path / "snapshot")
    altered = bytearray((tmp_path / "snapshot").read_bytes())
    altered[len(altered) // 2] ^= 1
    (tmp_path / "snapshot").write_bytes(altered)
    with pytest.raises(BackupInvalid, match="cannot read its messages"):
        await restored(tmp_path, state)


async def test_a_bus_that_is_down_says_so(stage: Stage, tmp_path: Path) -> None:
    await stage.plane.stop()
    with pytest.raises(BusUnavailable):
        await stage.plane.snapshot(tmp_path / "snapshot")


async def test_who_stops_waiting_for_an_answer_leaves_no_question_behind(tmp_path: Path) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def question() -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with private_server(BusOptions(tmp_path, port=0), tmp_path / "run", os.urandom, Logbook().logger) as server:
        waiting = asyncio.create_task(server.links.unless_lost(question()))
        await asked.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert ended.is_set()
