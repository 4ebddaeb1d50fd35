"""Large files on their way to disk: worked on while more comes, begun early so that the sync has little left to do.

Must never stand in for that sync: nothing here waits for the disk, or says what is on it. Imports nothing of the
project: client and store write large files.
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from functools import cache

GATHER = 2**21
"""Bytes that are worked on at once."""


def start_writing(descriptor: int, start: int, size: int) -> None:
    """Have the system begin to write these bytes of a file to disk. Blocks shortly: call it in a thread."""
    if hasattr(os, "posix_fadvise"):  # not on every system that clients run on
        # Linux begins to write what has changed there; what it is then told to forget it keeps, being not written yet.
        with contextlib.suppress(OSError):  # only advice: the sync that follows says what is wrong
            os.posix_fadvise(descriptor, start, size, os.POSIX_FADV_DONTNEED)


@cache
def keep_memory(size: int) -> None:
    """Have the C library keep up to `size` bytes that an upload or download has used, for its next step or the next.

    glibc gives free memory back to the system beyond twice the largest block that was ever freed (mallopt(3)). Without
    a large one it does so with every step, and the next one waits for the system to clear new pages: an eighth of all
    that a node does for an upload, a quarter of what a client does for a short one.
    """
    bytearray(size // 2)


class OneAhead:
    """Gathers pieces while those before them are worked on: GATHER bytes at a time, in order, and as many wait.

    Whatever ends it, `work` has ended before its context has. What `work` raises is raised by the next step.
    """

    def __init__(self, work: Callable[[list[bytes]], Awaitable[None]]) -> None:
        self._work = work
        self._pieces: list[bytes] = []
        self._gathered = 0
        self._working: asyncio.Future[None] | None = None

    async def take(self, piece: bytes) -> None:
        """Take the next piece, as soon as there is room for it."""
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= GATHER:
            await self._hand_on()

    async def _hand_on(self) -> None:
        await self._worked()
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        self._working = asyncio.ensure_future(self._work(pieces))

    async def _worked(self) -> None:
        if self._working is not None:
            await asyncio.shield(self._working)
            self._working = None

    async def __aenter__(self) -> "OneAhead":
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await self._hand_on()
                await self._worked()
        finally:
            if self._working is not None:
                await asyncio.wait([self._working])
        if self._working is not None and kind is not None and issubclass(kind, Exception):
            self._working.result()  # what is wrong with what came says more than why no more came
