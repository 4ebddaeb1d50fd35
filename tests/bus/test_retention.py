"""What a room keeps: by age and by size, on the real server, and never another room's frames."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.bus.stage import OTHER_ROOM, ROOM, Stage
from tests.bus.watched import watched
from unibus.bus.links import Links
from unibus.bus.mark import Held, look
from unibus.bus.retention import TURN, Retention, Tally
from unibus.model.subjects import room_messages


def tally(sizes: list[int]) -> Tally:
    return Tally().add(list(enumerate(sizes, 1)))


@pytest.mark.parametrize(
    ("sizes", "most", "end", "first"),
    [
        ([4, 4], 10, 0, 1),
        ([4, 4, 4], 10, 0, 2),
        ([4, 4, 4, 4], 8, 0, 3),
        ([50], 10, 0, 1),
        ([4, 50], 10, 0, 2),
        ([4, 4, 4], 100, 2, 3),
        ([4, 4, 4, 4], 8, 1, 3),
    ],
)
def test_the_newest_frames_that_fit_are_kept(sizes: list[int], most: int, end: int, first: int) -> None:
    left = tally(sizes).drop(list(enumerate(sizes, 1)), most, end)
    assert left == Tally(first, len(sizes), sum(sizes[first - 1 :]))


def test_no_more_goes_than_was_looked_at() -> None:
    assert tally([4] * 10).drop([(1, 4), (2, 4), (3, 4)], 4, 0) == Tally(3, 10, 32)


def test_what_somebody_else_dropped_makes_what_was_counted_worthless() -> None:
    assert tally([4] * 10).drop([(3, 4), (4, 4)], 4, 0) is None
    assert tally([4] * 10).drop([], 4, 0) is None


def test_what_was_counted_grows_by_what_follows() -> None:
    assert Tally().add([]) == Tally()
    assert Tally().add([(3, 1), (7, 2)]).add([]).add([(9, 4)]) == Tally(3, 9, 7)


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


async def test_a_room_is_kept_to_its_size_again_and_again_and_whoever_dropped_in_between(stage: Stage) -> None:
    member = stage.member(ROOM)
    async with stage.connect(member) as connection:
        for number in range(6):
            await connection.publish(ROOM, b"%d" % number * 1000)
            await stage.plane.retain(ROOM, None, 3500)
        assert await (await connection.read(ROOM)).bodies(3) == [b"3" * 1000, b"4" * 1000, b"5" * 1000]
        assert await stage.plane.drop(ROOM) == 3
        for number in range(6, 10):
            await connection.publish(ROOM, b"%d" % number * 1000)
            await stage.plane.retain(ROOM, None, 3500)
            await stage.plane.retain(ROOM, None, 3500)
        assert await (await connection.read(ROOM)).bodies(3) == [b"7" * 1000, b"8" * 1000, b"9" * 1000]


async def test_a_room_with_both_limits_is_kept_to_both(stage: Stage) -> None:
    async with stage.connect(stage.member(ROOM)) as connection:
        for number in range(3):
            await connection.publish(ROOM, b"%d" % number * 1000)
        await stage.plane.retain(ROOM, 60, 2500)
        await asyncio.sleep(1.1)
        await connection.publish(ROOM, b"3" * 1000)
        await stage.plane.retain(ROOM, 1, 2500)
        await connection.publish(ROOM, b"4" * 1000)
        await stage.plane.retain(ROOM, 60, 2500)
        assert await (await connection.read(ROOM)).bodies(2) == [b"3" * 1000, b"4" * 1000]


async def test_a_room_of_many_frames_holds_nobody_up_and_is_counted_in_turns(tmp_path: Path) -> None:
    """The lock that the check of the server waits for is held for what is dropped, and not while frames are counted."""
    entered = 0

    @contextlib.asynccontextmanager
    async def dropping() -> AsyncIterator[None]:
        nonlocal entered
        entered += 1
        yield

    async with watched(tmp_path) as bus, bus.inside(bus.keys.core) as client:
        js = client.jetstream()
        for _ in range(TURN // 1000 + 1):
            sent = [await js.publish_async(room_messages(ROOM, "U"), bytes(10)) for _ in range(1000)]
            await asyncio.gather(*sent)
        links = Links(client, client, client, asyncio.get_running_loop().create_future(), ())
        retention = Retention(links, dropping)
        began = asyncio.get_running_loop().time()
        await retention.retain(ROOM, None, 10 * TURN, 0.0)
        assert asyncio.get_running_loop().time() - began < 5
        assert entered == 0
        await retention.retain(ROOM, None, 10 * TURN, 0.0)
        assert entered == 1
        assert await look(links) == Held(TURN + 1000, TURN)
