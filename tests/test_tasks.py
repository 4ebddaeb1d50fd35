"""Ending tasks, also those that swallow a cancellation, which nats-py's waiting does on Python 3.11; sharing work."""

import asyncio
import os
import threading
from collections.abc import Sequence

import pytest

from unibus.tasks import SHARE, end_tasks, spread


async def deaf(times: int, heard: list[int]) -> None:
    """Goes on for ever, but for one cancellation more than `times`."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append(times)
            if len(heard) > times:
                raise


async def fails() -> None:
    raise RuntimeError


async def test_a_swallowed_cancellation_is_given_again() -> None:
    heard: list[int] = []
    task = asyncio.create_task(deaf(2, heard))
    await asyncio.sleep(0)
    await end_tasks(task, again=0.01)
    assert task.cancelled()
    assert len(heard) == 3


async def test_what_tasks_raised_is_dropped() -> None:
    failed, done, running = (
        asyncio.ensure_future(each) for each in (fails(), asyncio.sleep(0), asyncio.Event().wait())
    )
    await asyncio.wait([failed, done])
    await end_tasks(failed, None, done, running)
    assert isinstance(failed.exception(), RuntimeError)
    assert running.cancelled()


async def test_no_tasks_are_ended_at_once() -> None:
    async with asyncio.timeout(1):
        await end_tasks()
        await end_tasks(None)


async def test_one_that_cleans_up_is_left_to_it() -> None:
    cleaned = asyncio.Event()

    async def tidy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            cleaned.set()

    task = asyncio.create_task(tidy())
    await asyncio.sleep(0)
    await end_tasks(task)
    assert cleaned.is_set()


def doubled(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Each number twice over, and the thread that did it."""
    return [(2 * number, threading.get_ident()) for number in numbers]


@pytest.mark.parametrize("count", [0, 1, SHARE - 1])
async def test_little_work_is_done_here(count: int) -> None:
    assert await spread(doubled, range(count)) == [(2 * number, threading.get_ident()) for number in range(count)]


@pytest.mark.parametrize("count", [SHARE, 2 * SHARE + 1, 50 * SHARE + 7])
async def test_much_work_is_shared_out_and_stays_in_order(count: int) -> None:
    done = await spread(doubled, range(count))
    threads = {thread for _, thread in done}
    assert [number for number, _ in done] == list(range(0, 2 * count, 2))
    assert threading.get_ident() not in threads
    assert len(threads) <= min(4, os.cpu_count() or 1)


async def test_work_that_fails_says_so() -> None:
    with pytest.raises(ZeroDivisionError):
        await spread(lambda numbers: [1 // number for number in numbers], range(-SHARE, SHARE))
