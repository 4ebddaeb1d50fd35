"""What a room keeps: by age and by size, on the real server, and never another room's frames."""

import asyncio

import pytest

from tests.bus.stage import OTHER_ROOM, ROOM, Stage
from unibus.bus.retention import Kept


@pytest.mark.parametrize(
    ("sizes", "most", "dropped"),
    [([], 10, 0), ([4, 4], 10, 0), ([4, 4, 4], 10, 1), ([4, 4, 4, 4], 8, 2), ([50], 10, 0), ([4, 50], 10, 1)],
)
def test_the_newest_frames_that_fit_are_kept(sizes: list[int], most: int, dropped: int) -> None:
    kept = Kept(most)
    for sequence, size in enumerate(sizes, 1):
        kept.add(sequence, size)
    assert kept.dropped == dropped


async def test_frames_above_the_size_are_dropped_oldest_first(stage: Stage) -> None:
    member = stage.member(ROOM, OTHER_ROOM)
    async with stage.connect(member) as connection:
        for number in range(10):
            await connection.publish(ROOM, b"%d" % number * 1000)
            await connection.publish(OTHER_ROOM, b"%d" % number * 1000)
        await stage.plane.retain(ROOM, None, 3500)
        kept = await connection.read(ROOM)
        assert await kept.bodies(3) == [b"7" * 1000, b"8" * 1000, b"9" * 1000]
        others = await connection.read(OTHER_ROOM)
        assert len(await others.bodies(10)) == 10


async def test_frames_older_than_the_age_are_dropped(stage: Stage) -> None:
    member = stage.member(ROOM, OTHER_ROOM)
    async with stage.connect(member) as connection:
        await connection.publish(ROOM, b"old")
        await connection.publish(OTHER_ROOM, b"other")
        await asyncio.sleep(1.1)
        await connection.publish(ROOM, b"new")
        await stage.plane.retain(ROOM, 1, None)
        kept = await connection.read(ROOM)
        assert await kept.bodies(1) == [b"new"]
        await asyncio.sleep(1.1)
        await stage.plane.retain(ROOM, 1, None)
        await connection.publish(ROOM, b"newest")
        assert await (await connection.read(ROOM)).bodies(1) == [b"newest"]
        assert await (await connection.read(OTHER_ROOM)).bodies(1) == [b"other"]
