"""Signing anew when another record was first: every change is made on a head, and heads move.

Whoever loses is no further from winning the next time, so it tries on; a busy log may make somebody lose often. Must
never try without an end: a server can say for ever that another was first.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from unibus.errors import HeadConflict

WITHIN = 30.0
"""Seconds from the first attempt after which none begins any more."""
_AT_ONCE = 4
_PAUSE = 0.05  # seconds at most, before each attempt beyond those
T = TypeVar("T")


async def until_first(attempt: Callable[[], Awaitable[T]], within: float = WITHIN) -> T:
    """What `attempt` gives, which is made again while it raises HeadConflict, for `within` seconds."""
    loop = asyncio.get_running_loop()
    tries, until = 0, loop.time() + within
    while True:
        try:
            return await attempt()
        except HeadConflict:
            tries += 1
            if loop.time() >= until:
                raise
        if tries >= _AT_ONCE:
            await asyncio.sleep(random.uniform(0.0, _PAUSE))  # noqa: S311 - any will do
