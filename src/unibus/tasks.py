"""How tasks are ended, in one place.

One `task.cancel()` is not enough: Python 3.11's `asyncio.wait_for`, on which nats-py waits, swallows a cancellation
that comes in the same round of the loop as what it waits for (bpo-37658, mended in 3.12). A loop without end would
then go on, and who waits for its end would wait for ever.

This module must never import anything of the project: every layer may end tasks.
"""

import asyncio
from typing import Any

AGAIN = 2.0  # seconds


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
