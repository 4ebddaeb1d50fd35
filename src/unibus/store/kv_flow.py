"""Holds writes back while nobody answers any, so that a leader that was cut off is not given many that it must undo.

nats-server lets such a leader note down what it is asked for until it sees that it is alone, and later has it take
that back entry by entry, up to 2 s for each: meanwhile one replica less is current. Must never hold back what finds
out whether there are answers again.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HELD_AFTER = 0.1
"""Seconds without any answer after which nothing more is sent. Answers take milliseconds, or a disk's stall."""


class Flow:
    """The writes of one connection; `monotonic` tells the time in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._now = monotonic
        self._open = 0
        self._since: float | None = None  # the last answer, or the first write after all were answered
        self._answered = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether writes have to wait."""
        return self._since is not None and self._now() - self._since > HELD_AFTER

    async def turn(self) -> None:
        """Return once a write may be sent, which may be never."""
        while self.held:
            self._answered.clear()
            await self._answered.wait()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around sending a write and waiting for the answer; a time-out or a cancellation is none."""
        self._open += 1
        if self._since is None:
            self._since = self._now()
        answered = True
        try:
            yield
        except (TimeoutError, asyncio.CancelledError):
            answered = self._open == 1 and not self.held
            raise
        finally:
            self._open -= 1
            if answered:
                self.heard()

    def heard(self) -> None:
        """The cluster has just answered something, or told of what it took."""
        self._since = self._now() if self._open else None
        self._answered.set()
