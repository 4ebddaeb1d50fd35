"""Which waiting messages go into the next frame: a pure queue, so that frames fill under load and nothing waits alone.

A message is taken as soon as a frame may be sent; while frames are on their way, what arrives meanwhile goes together
into the next one. There is no timer: the acknowledgement of what went before is the clock.
"""

import asyncio
from collections import deque
from collections.abc import Generator
from typing import Any

from unibus.client.messages import Position
from unibus.crypto.frames import MAX_FRAME, OVERHEAD, PER_MESSAGE
from unibus.errors import TooLarge

MAX_MESSAGE = MAX_FRAME - OVERHEAD - PER_MESSAGE - 64
TARGET = 256 * 1024  # bytes after which a frame is full
MAX_MESSAGES = 4096  # … or messages


class Batch:
    """Messages that go into one frame; `done` gets the frame's number in the stream, or the error that ended it."""

    __slots__ = ("done", "messages")

    def __init__(self, done: "asyncio.Future[int]") -> None:
        self.messages: list[bytes] = []
        self.done = done


class Sent:
    """One message that was posted. Await it for its `Position`, once the bus has stored it; or for the error."""

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: Batch, index: int) -> None:
        self._batch = batch
        self._index = index

    def __await__(self) -> Generator[Any, None, Position]:
        done = self._batch.done
        # Several wait for one frame: who gives up must not take the others along.
        sequence = done.result() if done.done() else (yield from asyncio.shield(done).__await__())
        return Position(sequence, self._index)


class Batcher:
    """Messages waiting to be framed, already grouped into batches that fit. `size` is in bytes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._batches: deque[Batch] = deque()
        self._open_bytes = 0
        self.size = 0

    def add(self, data: bytes) -> Sent:
        """Queue one message. Raises TooLarge for what no frame can carry."""
        size = len(data) + PER_MESSAGE
        if size > MAX_MESSAGE + PER_MESSAGE:
            raise TooLarge(f"a message is at most {MAX_MESSAGE} bytes: send a blob, or less at once")
        batch = self._batches[-1] if self._batches else None
        if batch is None or self._open_bytes + size > TARGET or len(batch.messages) >= MAX_MESSAGES:
            batch = Batch(self._loop.create_future())
            self._batches.append(batch)
            self._open_bytes = 0
        batch.messages.append(data)
        self._open_bytes += size
        self.size += size
        return Sent(batch, len(batch.messages) - 1)

    def take(self) -> Batch | None:
        """The next batch to send, or None."""
        if not self._batches:
            return None
        batch = self._batches.popleft()
        self.size -= sum(map(len, batch.messages)) + PER_MESSAGE * len(batch.messages)
        return batch

    def take_all(self) -> list[Batch]:
        """Everything that waits, to be failed together."""
        batches = list(self._batches)
        self._batches.clear()
        self.size = 0
        return batches
