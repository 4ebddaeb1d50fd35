"""A bounded number of small jobs at a time, each with an owner. Must never lose an exception or outlive its owner."""

import asyncio
from collections.abc import Coroutine

from structlog.typing import FilteringBoundLogger

from unibus.tasks import end_tasks


class Workers:
    """Runs jobs named `name`; at most `most` at once, the next one is not taken."""

    def __init__(self, name: str, most: int, log: FilteringBoundLogger) -> None:
        self._name = name
        self._most = most
        self._log = log
        self._running: set[asyncio.Task[None]] = set()

    @property
    def full(self) -> bool:
        return len(self._running) >= self._most

    def run(self, job: Coroutine[object, object, None]) -> None:
        """Run `job` beside what runs; the caller has looked at `full`."""
        task = asyncio.create_task(job, name=self._name)
        self._running.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        """Cancel what runs and wait for it."""
        await end_tasks(*self._running)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("a bus job failed", job=self._name, exc_info=error)
