"""What waits to be written to the cluster, handed on in groups: one group is on its way at a time.

Must never leave anybody without an answer, nor hand on what its caller was told will not be done.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from unibus.errors import StorageUnavailable

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

    What was not begun within `within` seconds is refused.
    """

    def __init__(
        self,
        serve: Callable[[Sequence[Waiter[T, A]]], Awaitable[None]],
        most: int,
        most_bytes: int,
        within: float,
    ) -> None:
        self._serve = serve
        self._most = most
        self._most_bytes = most_bytes
        self._within = within
        self._waiting: deque[Waiter[T, A]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def put(self, what: T, size: int = 0) -> A:
        """The answer to `what`. Raises StorageUnavailable when others take too long, and what `serve` settles with."""
        waiter: Waiter[T, A] = Waiter(what, size, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="kv queue")
        refusing = asyncio.get_running_loop().call_later(self._within, _refuse, waiter)
        try:
            return await waiter.answer
        finally:
            refusing.cancel()

    async def _run(self) -> None:
        while group := self._take():
            try:
                await self._serve(group)
            except StorageUnavailable as error:
                for waiter in group:  # an error each: who raises it leaves traces on it
                    waiter.settle(type(error)(error.message))
            except Exception as error:  # noqa: BLE001 - whatever it was, each that waits must be told
                for waiter in group:
                    waiter.settle(error)

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
