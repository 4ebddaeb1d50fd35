"""How long an answer may take: one timer for all requests, because one each costs more than most answers do."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import ParamSpec, TypeVar

from unibus.errors import AnswerTimeout

P = ParamSpec("P")
T = TypeVar("T")


class Deadlines:
    """Gives each request so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[object], float] = {}  # all have the same time, so the first one ends first
        self._expired: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def bound(self, work: Callable[P, Awaitable[T]]) -> Callable[P, Coroutine[object, object, T]]:
        """`work`, each call of which raises AnswerTimeout where it took too long and was cancelled."""

        @wraps(work)
        async def within(*args: P.args, **kwargs: P.kwargs) -> T:
            loop = asyncio.get_running_loop()
            task = asyncio.current_task(loop)
            if task is None:
                raise RuntimeError("only a task can be cancelled")
            cancelling = task.cancelling()
            self._ends[task] = end = loop.time() + self._seconds
            if self._timer is None:
                self._timer = loop.call_at(end, self._look, loop)
            try:
                return await work(*args, **kwargs)
            except asyncio.CancelledError:
                # Who cancels for another reason counts for more: the task is to end then.
                if task in self._expired and task.cancelling() <= cancelling + 1:
                    raise AnswerTimeout(
                        f"this took longer than {self._seconds:g} s; ask again, it may have been done"
                    ) from None
                raise
            finally:
                del self._ends[task]
                if task in self._expired:
                    self._expired.discard(task)
                    task.uncancel()

        return within

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, self._timer = loop.time(), None
        for task, end in self._ends.items():
            if end > now:
                self._timer = loop.call_at(end, self._look, loop)
                break
            if task not in self._expired:
                self._expired.add(task)
                task.cancel()
