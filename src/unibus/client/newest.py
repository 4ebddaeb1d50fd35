"""A bounded queue of which the newest items are kept: what is not stored is worth less the older it is."""

import asyncio
from collections import deque
from typing import Generic, TypeVar

from unibus.errors import UnibusError

T = TypeVar("T")


class Newest(Generic[T]):
    """Holds at most `most` items; `dropped` counts the old ones that gave way to new ones."""

    def __init__(self, most: int) -> None:
        self._items: deque[T] = deque(maxlen=most)
        self._more = asyncio.Event()
        self._ended: UnibusError | None = None
        self.dropped = 0

    def put(self, item: T) -> None:
        """Add `item`, in place of the oldest if there is no room."""
        self.dropped += len(self._items) == self._items.maxlen
        self._items.append(item)
        self._more.set()

    def end(self, error: UnibusError) -> None:
        """Have `get` raise `error` once it has given out what is there."""
        self._ended = error
        self._more.set()

    async def get(self) -> T:
        """The oldest item, as soon as there is one. Raises what `end` was told."""
        while not self._items:
            if self._ended is not None:
                raise self._ended
            self._more.clear()
            await self._more.wait()
        return self._items.popleft()
