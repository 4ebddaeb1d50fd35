"""Signing anew when another record was first: every change is made on a head, and heads move."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from unibus.errors import HeadConflict

RACES = 8
T = TypeVar("T")


async def until_first(attempt: Callable[[], Awaitable[T]]) -> T:
    """What `attempt` gives, which is made again while it raises HeadConflict, up to `RACES` times in all."""
    for _ in range(RACES - 1):
        try:
            return await attempt()
        except HeadConflict:
            continue
    return await attempt()
