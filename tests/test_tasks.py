"""Ending tasks, also those that swallow a cancellation, which nats-py's waiting does on Python 3.11."""

import asyncio

from unibus.tasks import end_tasks


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
