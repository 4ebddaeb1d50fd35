"""Parts of one upload that come at once: each waits for those that begin before it, so a sender need not wait itself.

Decides nothing about what counts: who has waited may still be told that the upload goes on elsewhere. Only of this
process: a part that comes by way of another node waits for nothing here.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class PartOrder:
    """The parts of one upload that are on their way, by where they begin."""

    def __init__(self) -> None:
        self._left: dict[int, asyncio.Event] = {}

    @asynccontextmanager
    async def after_earlier(self, offset: int) -> AsyncGenerator[None, None]:
        """In it a part comes that begins at `offset`, once no earlier one does.

        Nobody waits any more for another that began there: its sender was cut off, or is overtaken now.
        """
        left = asyncio.Event()
        if offset in self._left:
            self._left[offset].set()
        self._left[offset] = left
        try:
            while (first := min(self._left, default=offset)) < offset:
                await self._left[first].wait()
            yield
        finally:
            left.set()
            if self._left.get(offset) is left:
                del self._left[offset]
