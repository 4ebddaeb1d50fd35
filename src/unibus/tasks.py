"""How tasks are ended, and how work that would hold up the event loop is shared out, in one place.

One `task.cancel()` is not enough: Python 3.11's `asyncio.wait_for`, on which nats-py waits, swallows a cancellation
that comes in the same round of the loop as what it waits for (bpo-37658, mended in 3.12). A loop without end would
then go on, and who waits for its end would wait for ever.

This module must never import anything of the project: every layer may end tasks.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, TypeVar

AGAIN = 2.0  # seconds
SHARE = 32
"""Items of which a thread is given so many at least: fewer are done before it would have begun."""
_MOST_THREADS = 4

T = TypeVar("T")
R = TypeVar("R")


async def end_tasks(*tasks: "asyncio.Future[Any] | None", again: float = AGAIN) -> None:
    """Cancel `tasks` until every one is over, once more every `again` seconds. What they raise is dropped.

    A task whose own cleaning up may take longer than that needs more, or it is disturbed in it. None is nothing to end.
    """
    started = [task for task in tasks if task is not None]
    while pending := [task for task in started if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=again)
    await asyncio.gather(*started, return_exceptions=True)


async def spread(work: Callable[[Sequence[T]], list[R]], items: Sequence[T]) -> list[R]:
    """What `work` makes of all `items`, in order: it is given them in parts, in as many threads as there are cores.

    Pays where most of the work is done outside of the interpreter, such as verifying signatures. Few items are worked
    on at once, here. Raises what `work` raises.
    """
    threads = min(os.cpu_count() or 1, _MOST_THREADS, len(items) // SHARE)
    if threads == 0:
        return work(items)
    size = -(-len(items) // threads)
    parts = [items[begin : begin + size] for begin in range(0, len(items), size)]
    return list(chain.from_iterable(await asyncio.gather(*(asyncio.to_thread(work, part) for part in parts))))
