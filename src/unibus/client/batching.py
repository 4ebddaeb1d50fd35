"""Which waiting messages go into the next frame: a pure queue, so that frames fill under load and nothing waits alone.

A message is taken as soon as a frame may be sent; while frames are on their way, what arrives meanwhile goes together
into the next one. There is no timer: the acknowledgement of what went before is the clock.
"""

import asyncio
from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from unibus.client.messages import Position
from unibus.crypto.frames import MAX_FRAME, OVERHEAD, PER_MESSAGE
from unibus.errors import TooLarge, UnibusError

MAX_MESSAGE = MAX_FRAME - OVERHEAD - PER_MESSAGE - 64
PIECE = 16 * 1024  # bytes of messages that are never parted, nor is a single larger message
MAX_MESSAGES = 4096  # in one frame


class Piece:
    """Messages that go into the same frame, from the offset `first` in it on.

    `done` gets the frame's number in the stream, or the error that ended it.
    """

    __slots__ = ("done", "first", "messages", "size")

    def __init__(self, done: "asyncio.Future[int]") -> None:
        self.messages: list[bytes] = []
        self.done = done
        self.first = self.size = 0


class Batch:
    """The pieces that one frame carries; at least one."""

    __slots__ = ("messages", "pieces")

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.messages: list[bytes] = []
        for piece in pieces:
            piece.first = len(self.messages)
            self.messages += piece.messages
            piece.messages = []

    def settle(self, outcome: int | UnibusError) -> None:
        """Tell all who wait for these messages the frame's number, or the error."""
        for piece in self.pieces:
            if piece.done.done():
                continue
            if isinstance(outcome, int):
                piece.done.set_result(outcome)
            else:
                piece.done.set_exception(outcome)
                # Who posted and never asks hears of it from `drain`; asyncio need not complain as well.
                piece.done.exception()


class Sent:
    """One message that was posted. Await it for its `Position`, once the bus has stored it; or for the error."""

    __slots__ = ("_index", "_piece")

    def __init__(self, piece: Piece, index: int) -> None:
        self._piece = piece
        self._index = index

    def __await__(self) -> Generator[Any, None, Position]:
        done = self._piece.done
        # Several wait for one frame: who gives up must not take the others along.
        sequence = done.result() if done.done() else (yield from asyncio.shield(done).__await__())
        return Position(sequence, self._piece.first + self._index)


class Batcher:
    """Messages waiting to be framed. `size` is in bytes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pieces: deque[Piece] = deque()
        self.size = 0

    def add(self, data: bytes) -> Sent:
        """Queue one message. Raises TooLarge for what no frame can carry."""
        size = len(data) + PER_MESSAGE
        if size > MAX_MESSAGE + PER_MESSAGE:
            raise TooLarge(f"a message is at most {MAX_MESSAGE} bytes: send a blob, or less at once")
        piece = self._pieces[-1] if self._pieces else None
        if piece is None or piece.size + size > PIECE or len(piece.messages) >= MAX_MESSAGES:
            piece = Piece(self._loop.create_future())
            self._pieces.append(piece)
        piece.messages.append(data)
        piece.size += size
        self.size += size
        return Sent(piece, len(piece.messages) - 1)

    def take(self, most: int) -> Batch | None:
        """What the next frame carries, `most` bytes or a single piece; or None."""
        if not self._pieces:
            return None
        taken = [self._pieces.popleft()]
        size, messages = taken[0].size, len(taken[0].messages)
        while self._pieces:
            piece = self._pieces[0]
            size, messages = size + piece.size, messages + len(piece.messages)
            if size > most or messages > MAX_MESSAGES:
                break
            taken.append(self._pieces.popleft())
        self.size -= sum(piece.size for piece in taken)
        return Batch(taken)

    def take_all(self) -> list[Batch]:
        """Everything that waits, to be failed together."""
        batches = [Batch([piece]) for piece in self._pieces]
        self._pieces.clear()
        self.size = 0
        return batches
