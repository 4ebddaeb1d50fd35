"""Pieces worked on one step behind those that come: in order, completely, and never left running."""

import asyncio

import pytest

from unibus.writing import GATHER, OneAhead

PIECE = b"x" * (GATHER // 2)


class Work:
    """Notes what it is given; each step waits until it is let go on."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done: list[int] = []
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.running = 0
        self.error = error

    async def __call__(self, pieces: list[bytes]) -> None:
        assert not self.running
        self.running += 1
        self.begun.set()
        await self.go_on.wait()
        self.running -= 1
        if self.error is not None:
            raise self.error
        self.done.append(sum(map(len, pieces)))


async def test_all_is_worked_on_in_order_one_step_at_a_time() -> None:
    work = Work()
    work.go_on.set()
    async with OneAhead(work) as ahead:
        for _ in range(5):
            await ahead.take(PIECE)
    assert work.done == [GATHER, GATHER, GATHER // 2]


async def test_more_comes_while_one_step_is_worked_on_and_no_more_than_that() -> None:
    work = Work()

    async def feed() -> None:
        async with OneAhead(work) as ahead:
            for _ in range(6):
                await ahead.take(PIECE)

    feeding = asyncio.create_task(feed())
    await work.begun.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert (work.done, work.running, feeding.done()) == ([], 1, False)
    work.go_on.set()
    await feeding
    assert work.done == [GATHER, GATHER, GATHER, 0]


async def test_what_fails_is_told_by_the_next_step() -> None:
    work = Work(error=ValueError("full"))
    work.go_on.set()

    async def feed() -> None:
        async with OneAhead(work) as ahead:
            for _ in range(4):
                await ahead.take(PIECE)

    with pytest.raises(ValueError, match="full"):
        await feed()


@pytest.mark.parametrize("why", [ConnectionError, asyncio.CancelledError])
async def test_nothing_goes_on_after_the_end(why: type[BaseException]) -> None:
    work = Work()

    async def cut() -> None:
        async with OneAhead(work) as ahead:
            await ahead.take(PIECE)
            await ahead.take(PIECE)
            raise why

    cutting = asyncio.create_task(cut())
    await work.begun.wait()
    assert not cutting.done()
    work.go_on.set()
    with pytest.raises(why):
        await cutting
    assert work.done == [GATHER]


async def test_who_is_cancelled_at_the_end_waits_for_what_goes_on() -> None:
    work = Work()

    async def feed() -> None:
        async with OneAhead(work) as ahead:
            await ahead.take(PIECE)

    feeding = asyncio.create_task(feed())
    await work.begun.wait()
    feeding.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert (work.running, feeding.done()) == (1, False)
    work.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await feeding
    assert work.done == [len(PIECE)]


async def test_what_is_wrong_with_what_came_says_more_than_why_no_more_came() -> None:
    work = Work(error=ValueError("altered"))
    work.go_on.set()

    async def cut() -> None:
        async with OneAhead(work) as ahead:
            await ahead.take(PIECE)
            await ahead.take(PIECE)
            raise ConnectionError("cut")

    with pytest.raises(ValueError, match="altered"):
        await cut()
