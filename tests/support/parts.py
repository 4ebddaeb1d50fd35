"""The bytes of parts of uploads, as a sender gives them to a store or a service."""

import asyncio
from collections.abc import AsyncIterator


async def blocks(*parts: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    """All of `parts`, then `error`, if there is one."""
    for part in parts:
        yield part
    if error is not None:
        raise error


class Stuck:
    """A sender that hangs: `reached` is set once all of `before` was taken, and it goes on when `go_on` is set.

    With `after`, or with `error`.
    """

    def __init__(self, *before: bytes, after: bytes = b"", error: Exception | None = None) -> None:
        self.reached, self.go_on = asyncio.Event(), asyncio.Event()
        self._before, self._after, self._error = before, after, error

    async def blocks(self) -> AsyncIterator[bytes]:
        """What it sends."""
        for part in self._before:
            yield part
        self.reached.set()
        await self.go_on.wait()
        if self._error is not None:
            raise self._error
        yield self._after
