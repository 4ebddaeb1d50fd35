"""The chunks of one upload or blob, in order and without a gap, from servers that may lag, restart or die meanwhile.

Memory: two stretches of BATCH bytes, one that is given out while the next is on its way. A reader that goes away leaves
nothing on a server. Must never give out bytes of an offset other than the one that is next.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

from unibus.errors import NotFound, StorageUnavailable
from unibus.store.blob_objects_layout import BATCH, Marks, offset_of, sequence_before
from unibus.store.blob_objects_wire import WITHIN, Bucket, Message
from unibus.tasks import end_tasks

_AGAIN = 0.1


async def read_chunks(
    bucket: Bucket, subject: str, marks: Marks, start: int, stop: int, still_there: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[bytes, None]:
    """The bytes from `start` up to `stop`, in blocks. `marks` says where to look.

    Raises NotFound once `still_there` says no, StorageUnavailable when nobody has the next chunk for WITHIN seconds.
    """
    if start >= stop:
        return
    loop = asyncio.get_running_loop()
    position, sequence, deadline = start, sequence_before(marks, start), loop.time() + WITHIN
    coming = asyncio.create_task(bucket.stretch(subject, sequence, BATCH))
    try:
        while True:
            found, failed = await _outcome(coming)
            pieces = list(following(found, position, stop))
            position += sum(map(len, pieces))
            if pieces:
                sequence, deadline = found[-1].sequence + 1, loop.time() + WITHIN
            elif loop.time() > deadline:
                raise failed or StorageUnavailable("a part of a blob is on no server that answers: try again")
            else:
                await _wait_for_more(still_there)
            if position < stop:
                coming = asyncio.create_task(bucket.stretch(subject, sequence, BATCH))
            for piece in pieces:
                yield piece
            if position >= stop:
                return
    finally:
        await end_tasks(coming)


async def _outcome(coming: "asyncio.Task[list[Message]]") -> tuple[list[Message], StorageUnavailable | None]:
    try:
        return await coming, None
    except StorageUnavailable as error:
        return [], error


async def _wait_for_more(still_there: Callable[[], Awaitable[bool]]) -> None:
    with contextlib.suppress(StorageUnavailable):  # a server without a leader may still have chunks
        if not await still_there():
            raise NotFound("there is no such blob for you")
    await asyncio.sleep(_AGAIN)


def following(found: Sequence[Message], position: int, stop: int) -> Iterator[bytes]:
    """What of `found` goes on at `position`, up to `stop` or to the first gap."""
    for message in found:
        begins = offset_of(message.headers)
        if begins > position or position >= stop:
            return
        piece = message.data[position - begins : stop - begins]
        position += len(piece)
        if piece:
            yield piece
