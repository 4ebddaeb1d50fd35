"""What waits to be written to the cluster, handed on in groups: one group is on its way at a time.

Whoever writes one thing after another comes back in a moment: all who were just answered do. The first of them alone
would be the next group, all others wait behind it, and nothing is done meanwhile. So a group that follows another at
once is given a moment to become as large as that.

Must never leave anybody without an answer, nor hand on what its caller was told will not be done.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from unibus.errors import StorageUnavailable

PATIENCE = 0.03  # seconds, about what it takes to answer sixty and to hear from them again
SLOW = "others write and the cluster is slow: try again"

T = TypeVar("T")
A = TypeVar("A")


@dataclass(eq=False, slots=True)
class Waiter(Generic[T, A]):
    """Something to write, about how many bytes it is, and who waits for the answer."""

    what: T
    size: int
    answer: "asyncio.Future[A]"
    begun: bool = False

    def settle(self, answer: A | Exception) -> None:
        """Give the answer, or the error to raise, if nobody has."""
        if self.answer.done():
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


def _refuse(waiter: Waiter[T, A]) -> None:
    if not waiter.begun:
        waiter.settle(StorageUnavailable(SLOW))


class Queue(Generic[T, A]):
    """Hands on groups of at most `most` things and `most_bytes`, and one at least; `serve` settles each of a group.

    What was not begun within `within` seconds is refused. `patience` is for how many seconds a group waits at most for
    as many as were just answered; it never waits longer than those took.
    """

    def __init__(
        self,
        serve: Callable[[Sequence[Waiter[T, A]]], Awaitable[None]],
        most: int,
        most_bytes: int,
        within: float,
        patience: float = PATIENCE,
    ) -> None:
        self._serve = serve
        self._most = most
        self._most_bytes = most_bytes
        self._within = within
        self._patience = patience
        self._waiting: deque[Waiter[T, A]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._enough = 0
        """So many are worth waiting for, until the loop's time `_until`."""
        self._until = 0.0
        self._grown = asyncio.Event()

    async def put(self, what: T, size: int = 0) -> A:
        """The answer to `what`. Raises StorageUnavailable when others take too long, and what `serve` settles with."""
        waiter: Waiter[T, A] = Waiter(what, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="kv queue")
        if len(self._waiting) >= self._enough:
            self._grown.set()
        refusing = asyncio.get_running_loop().call_later(self._within, _refuse, waiter)
        try:
            return await waiter.answer
        finally:
            refusing.cancel()

    async def _run(self) -> None:
        now = asyncio.get_running_loop().time
        while self._waiting:
            await self._grow()
            if group := self._take():
                begin = now()
                await self._hand_on(group)
                self._enough, self._until = len(group), now() + min(now() - begin, self._patience)

    async def _hand_on(self, group: Sequence[Waiter[T, A]]) -> None:
        try:
            await self._serve(group)
        except StorageUnavailable as error:
            for waiter in group:  # an error each: who raises it leaves traces on it
                waiter.settle(type(error)(error.message))
        except Exception as error:  # noqa: BLE001 - whatever it was, each that waits must be told
            for waiter in group:
                waiter.settle(error)

    async def _grow(self) -> None:
        self._grown.clear()
        if len(self._waiting) < self._enough:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(self._until):
                    await self._grown.wait()

    def _take(self) -> list[Waiter[T, A]]:
        group: list[Waiter[T, A]] = []
        size = 0
        while self._waiting and len(group) < self._most:
            waiter = self._waiting[0]
            size += waiter.size
            if group and size > self._most_bytes:
                break
            self._waiting.popleft()
            if not waiter.answer.done():
                waiter.begun = True
                group.append(waiter)
        return group
