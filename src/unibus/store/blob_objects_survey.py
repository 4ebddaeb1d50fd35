"""All that a bucket holds, asked of a leader that proves to be current, and the end of what a crash left there.

A leader that was just cut off, or a server that has just started, may list less than was acknowledged. So a message is
written first: only a leader with a majority can, and a list that knows its sequence is not older.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import TypeVar

from unibus.store.blob_objects_layout import (
    Announced,
    State,
    Subjects,
    nuid_in,
    place_named,
    read_announced,
    read_stored,
)
from unibus.store.blob_objects_wire import Bucket, Listing, Message
from unibus.store.blob_port import Held, Upload
from unibus.tasks import end_tasks

T = TypeVar("T")
_AT_ONCE = 16


async def survey(bucket: Bucket, subjects: Subjects) -> tuple[Collection[Upload], Collection[Held]]:
    """All uploads and blobs; see `BlobStore.survey`. Raises StorageUnavailable."""
    current = await bucket.barrier()
    # In this order: chunks of an upload that became a blob meanwhile belong to one of the two that are found later.
    chunks = await bucket.listing(subjects.all("C"), current)
    listed = await bucket.listing(subjects.all("N"), current)
    uploads = await _all(bucket, await bucket.listing(subjects.all("U"), current))
    blobs = await _all(bucket, await bucket.listing(subjects.all("M"), current))
    announced = [(read_announced(message.subject, message.data), message.sequence) for message in uploads]
    kept = {upload.nuid for upload, _ in announced} | {nuid_in(message.data) for message in blobs}
    named = {place_named(message.subject) for message in blobs}
    for subject in chunks.counts:
        if subject.rpartition(".")[2] not in kept:
            await bucket.purge(subject)
    for subject in listed.counts:
        scope, blob = subject.split(".")[-2:]
        if (scope, blob) not in named:
            await bucket.purge(subject, listed.last)
    for upload, sequence in announced:
        if not upload.live:
            await clear(bucket, subjects, upload, sequence)
    return [upload.upload for upload, _ in announced if upload.live], [*filter(None, map(_held, blobs))]


async def clear(bucket: Bucket, subjects: Subjects, ended: Announced, sequence: int) -> None:
    """Remove what is left of an upload that is none any more, and whose last message has `sequence`."""
    if ended.state is State.DROPPED:
        await bucket.purge(subjects.chunks(ended.nuid))
    await bucket.purge(subjects.upload(ended.upload.place), sequence)


async def some_at_once(ask: Callable[[str], Awaitable[T]], about: Iterable[str]) -> list[T]:
    """What `ask` answers about each, in order; a few questions are open at a time."""
    turns = asyncio.Semaphore(_AT_ONCE)

    async def in_turn(one: str) -> T:
        async with turns:
            return await ask(one)

    asking = [asyncio.ensure_future(in_turn(one)) for one in about]
    try:
        return await asyncio.gather(*asking)
    finally:
        await end_tasks(*asking)


async def _all(bucket: Bucket, listing: Listing) -> list[Message]:
    return [*filter(None, await some_at_once(bucket.last, listing.counts))]


def _held(message: Message) -> Held | None:
    named = place_named(message.subject)
    stored = named and read_stored(*named, message.data)
    return stored.held if stored else None
