"""Blobs in JetStream's object store: implements `unibus.store.blob_port.BlobStore` for a cluster of nodes.

Any node goes on with an upload that another began. Each step is decided by one message, written only if what was read
is still the last (see `blob_objects_layout`), so that a step of a sender who was overtaken does nothing. Memory stays
the same whatever the size of a blob. Must never show a blob of which a byte is missing or unchecked.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from nats.aio.client import Client

from unibus.crypto.encoding import b64u
from unibus.errors import DigestMismatch, NotFound, StorageUnavailable, UploadConflict
from unibus.store.blob_objects_hashes import Hashes
from unibus.store.blob_objects_layout import (
    Announced,
    State,
    Stored,
    Subjects,
    Write,
    batches,
    chunks_of,
    marked,
    read_announced,
    read_stored,
)
from unibus.store.blob_objects_reading import read_chunks
from unibus.store.blob_objects_survey import clear, some_at_once, survey
from unibus.store.blob_objects_wire import Bucket, Full, Moved
from unibus.store.blob_order import PartOrder
from unibus.store.blob_port import GONE, MIXED_UP, Held, Place, Upload, check_parts

if TYPE_CHECKING:
    from hashlib import _Hash

BUCKET = "unibus-blobs"
_OVERTAKEN = "another request sends this upload now"


class ObjectBlobs:
    """Uploads and blobs of all nodes in one bucket. Made by `open`."""

    def __init__(
        self, bucket: Bucket, subjects: Subjects, clock: Callable[[], float], full: Callable[[], bool]
    ) -> None:
        self._full = full
        self._bucket = bucket
        self._subjects = subjects
        self._clock = clock
        self._hashes = Hashes()
        self._orders: WeakValueDictionary[Place, PartOrder] = WeakValueDictionary()

    @classmethod
    async def open(
        cls,
        client: Callable[[], Client],
        *,
        replicas: int,
        clock: Callable[[], float],
        bucket: str = BUCKET,
        beside: str | None = None,
        full: Callable[[], bool] = lambda: False,
    ) -> "ObjectBlobs":
        """Blobs in `bucket`, which their first use makes if it is not there. Asks nobody yet.

        It is made with so many `replicas`, or with as many as the stream `beside` has by then, if one is named. While
        it is `full`, nothing is received. `client` gives this node's connection as it is at that moment, or raises
        StorageUnavailable. `clock` gives Unix seconds.
        """
        subjects = Subjects(bucket)
        return cls(Bucket(client, subjects, replicas, beside), subjects, clock, full)

    async def begin(self, place: Place, size: int) -> Upload:
        """See `BlobStore.begin`."""
        while True:
            found, sequence = await self._announced(place)
            if found is not None and found.live:
                if found.upload.size != size:
                    raise UploadConflict(
                        f"this upload was begun with {found.upload.size} bytes: give it up first", offset=0
                    )
                return found.upload
            if found is not None and found.state is State.DROPPED:
                await self._bucket.purge(self._subjects.chunks(found.nuid))
            begun = Announced(Upload(place, size, 0, self._clock()), secrets.token_hex(11))
            with contextlib.suppress(Moved):
                await self._announce(begun, sequence)
                return begun.upload

    async def upload(self, place: Place) -> Upload | None:
        """See `BlobStore.upload`."""
        found, _ = await self._announced(place)
        return found.upload if found is not None and found.live else None

    async def receive(
        self, place: Place, offset: int, blocks: AsyncIterator[bytes], through: str | None = None
    ) -> Upload:
        """See `BlobStore.receive`."""
        order = self._orders.setdefault(place, PartOrder())
        async with order.after_earlier(offset):
            return await self._receive(place, offset, blocks, through)

    async def _receive(self, place: Place, offset: int, blocks: AsyncIterator[bytes], through: str | None) -> Upload:
        if through is not None:
            await self._hash((await self._live(place))[0])  # before the turn: it may take long, if all is read back
        going, turn = await self._take_turn(place, offset)
        upto, hasher = self._hashes.of(going)
        if through is not None and upto != offset:
            raise UploadConflict(_OVERTAKEN, offset=going.upload.received)
        try:
            async with aclosing(batches(blocks, going.upload.size - offset)) as cut:
                going = await self._take(going, turn, cut, hasher if upto == offset else None)
            if through is not None and b64u(hasher.digest()) != through:
                raise DigestMismatch(MIXED_UP)
            # Only this makes all of it count.
            now = replace(going, state=State.OPEN, upload=replace(going.upload, touched=self._clock()))
            await self._announce(now, turn)
        except Moved as error:
            raise UploadConflict(_OVERTAKEN, offset=offset) from error
        if upto == offset:
            self._hashes.keep(now, now.upload.received, hasher)
        return now.upload

    async def _take(
        self, going: Announced, turn: int, parts: AsyncIterator[bytes], hasher: "_Hash | None"
    ) -> Announced:
        """Send batch after batch, each hashed while it is on its way. Raises Moved."""
        sending: asyncio.Task[Announced] | None = None
        try:
            async for batch in parts:
                if sending is not None:
                    going = await asyncio.shield(sending)
                sending = asyncio.create_task(self._send(going, turn, batch))
                if hasher is not None:
                    await asyncio.to_thread(hasher.update, batch)
            return going if sending is None else await asyncio.shield(sending)
        finally:
            if sending is not None:  # one that was cut would take up a place on the server for a while
                await asyncio.gather(sending, return_exceptions=True)

    async def _take_turn(self, place: Place, offset: int) -> tuple[Announced, int]:
        """Announce that a part comes: from then on nobody else's part goes on. Then remove what of theirs was cut."""
        while True:
            found, sequence = await self._live(place)
            if offset != found.upload.received:
                raise UploadConflict(f"the upload goes on at {found.upload.received}", offset=found.upload.received)
            with contextlib.suppress(Moved):
                turn = await self._announce(replace(found, state=State.TAKING), sequence)
                break
        if found.state is State.TAKING:
            chunks, left = self._subjects.chunks(found.nuid), found.last
            # What came after the turn is not ours to judge: somebody else may have the next turn.
            while (message := await self._bucket.next(chunks, left + 1)) is not None and message.sequence < turn:
                await self._bucket.delete(message.sequence)
                left = message.sequence
        return found, turn

    async def _send(self, going: Announced, turn: int, batch: bytes) -> Announced:
        if self._full():  # the upload may go on once there is room
            raise StorageUnavailable("the cluster has no more room for blobs: free some space and try again")
        upload = going.upload
        subject, guard = self._subjects.chunks(going.nuid), self._subjects.upload(upload.place)
        writes = chunks_of(batch, upload.received, subject, guard, turn)
        last = await self._write(going, turn, *writes)
        return replace(
            going,
            upload=replace(upload, received=upload.received + len(batch)),
            chunks=going.chunks + len(writes),
            last=last,
            marks=marked(going.marks, upload.received, last - len(writes) + 1, upload.size),
        )

    async def finish(self, place: Place, note: bytes, stored_at: int, blob: str | None = None) -> Held:
        """See `BlobStore.finish`."""
        final = place._replace(blob=blob or place.blob)
        while True:
            going, sequence = await self._live(place)
            upload = going.upload
            if upload.received != upload.size:
                raise UploadConflict(f"the upload goes on at {upload.received}", offset=upload.received)
            if await self._digest(going, sequence) != final.blob:
                await self.abandon(place)
                raise DigestMismatch("what came does not have the hash that is the blob's id: send it again")
            found, replaces = await self._stored(final.scope, final.blob)
            if found is not None:
                await self.abandon(place)
                return found.held
            stored = Stored(Held(final, upload.size, note, stored_at), going.nuid, going.chunks, going.marks)
            with contextlib.suppress(Moved):
                await self._publish(stored, going, sequence, replaces)
                return stored.held

    async def _publish(self, stored: Stored, going: Announced, sequence: int, replaces: int) -> None:
        """Make it a blob and its upload none, in one step. Raises Moved."""
        final, names = stored.held.place, self._subjects
        upload, listed = names.upload(going.upload.place), names.listed(final.scope, final.blob)
        meta = names.meta(final.scope, final.blob)
        done = replace(going, state=State.DONE).encode()
        last = await self._write(
            going,
            sequence,
            Write(upload, done, sequence, only=True),
            Write(listed, b"", only=True),
            Write(meta, stored.encode(names.bucket), replaces, only=True),
        )
        self._hashes.forget(going.upload.place)
        with contextlib.suppress(StorageUnavailable):  # it is no upload any more, and the survey clears it away
            await self._bucket.purge(upload, last)

    async def _digest(self, going: Announced, sequence: int) -> str | None:
        """The blob's id that the stored bytes give; None when there are more or fewer chunks than count."""
        subject = self._subjects.chunks(going.nuid)
        listing = await self._bucket.listing(subject, sequence)
        if listing.counts.get(subject, 0) != going.chunks:
            return None
        return b64u((await self._hash(going)).digest())

    async def _hash(self, going: Announced) -> "_Hash":
        """The hash of all that counts, read back as far as this process does not know it."""
        place, subject = going.upload.place, self._subjects.chunks(going.nuid)

        async def still_there() -> bool:
            found, _ = await self._announced(place)
            return found is not None and found.nuid == going.nuid

        upto, hasher = self._hashes.of(going)
        pieces = read_chunks(self._bucket, subject, going.marks, upto, going.upload.received, still_there)
        async with aclosing(pieces):
            async for piece in pieces:
                await asyncio.to_thread(hasher.update, piece)
                upto += len(piece)
                self._hashes.keep(going, upto, hasher)  # who gave up waiting and asks again finds what was done
        return hasher

    async def abandon(self, place: Place) -> bool:
        """See `BlobStore.abandon`."""
        while True:
            found, sequence = await self._announced(place)
            if found is None:
                return False
            if not found.live:
                await clear(self._bucket, self._subjects, found, sequence)
                return False
            try:
                dropped = Write(self._subjects.upload(place), replace(found, state=State.DROPPED).encode(), sequence)
                at = await self._bucket.write(replace(dropped, only=True))
            except Moved:
                continue
            except Full:
                if await self._drop_full(found, sequence):
                    return True
                continue
            self._hashes.forget(place)
            await clear(self._bucket, self._subjects, replace(found, state=State.DROPPED), at)
            return True

    async def find(self, scope: str, blob: str) -> Held | None:
        """See `BlobStore.find`."""
        found, _ = await self._stored(scope, blob)
        return None if found is None else found.held

    async def page(self, scope: str, after: str, limit: int) -> list[Held]:
        """See `BlobStore.page`."""
        listing = await self._bucket.listing(self._subjects.scope(scope), 0)
        names = sorted(name for subject in listing.counts if (name := subject.rpartition(".")[2]) > after)
        page: list[Held] = []

        async def find(name: str) -> Held | None:
            return await self.find(scope, name)

        while names and len(page) < limit:
            wanted = names[: limit - len(page)]
            del names[: len(wanted)]
            page += [*filter(None, await some_at_once(find, wanted))]
        return page

    async def read(self, scope: str, blob: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See `BlobStore.read`."""
        stored, _ = await self._stored(scope, blob)
        if stored is None:
            raise NotFound("there is no such blob for you")
        wanted = stored.nuid

        async def still_there() -> bool:
            found, _ = await self._stored(scope, blob)
            return found is not None and found.nuid == wanted

        stop = min(stop, stored.held.size)
        subject = self._subjects.chunks(stored.nuid)
        pieces = read_chunks(self._bucket, subject, stored.marks, start, stop, still_there)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def snapshot(self, target: Path) -> AsyncGenerator[Held, None]:
        """See `BlobStore.snapshot`."""
        with _named_refusals():
            await asyncio.to_thread(target.mkdir, 0o700)
        _, blobs = await self.survey()
        for held in blobs:
            path = target / f"{held.place.scope}.{held.place.blob}"
            try:
                with _named_refusals():
                    await self._copy(held, path)
            except NotFound:  # removed since it was listed
                await asyncio.to_thread(path.unlink)
            else:
                yield held

    async def _copy(self, held: Held, path: Path) -> None:
        pieces = self.read(held.place.scope, held.place.blob, 0, held.size)
        with await asyncio.to_thread(path.open, "xb") as file:
            async with aclosing(pieces):
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)

    async def remove(self, scope: str, blob: str) -> Held | None:
        """See `BlobStore.remove`."""
        found, sequence = await self._stored(scope, blob)
        if found is None or not await self._bucket.purge(self._subjects.meta(scope, blob), sequence):
            return None
        await self._bucket.purge(self._subjects.listed(scope, blob), sequence)
        await self._bucket.purge(self._subjects.chunks(found.nuid))
        return found.held

    async def survey(self) -> tuple[Collection[Upload], Collection[Held]]:
        """See `BlobStore.survey`."""
        return await survey(self._bucket, self._subjects)

    async def _announced(self, place: Place) -> tuple[Announced | None, int]:
        message = await self._bucket.last(self._subjects.upload(place))
        return (None, 0) if message is None else (read_announced(message.subject, message.data), message.sequence)

    async def _live(self, place: Place) -> tuple[Announced, int]:
        found, sequence = await self._announced(place)
        if found is None or not found.live:
            raise NotFound(GONE)
        return found, sequence

    async def _stored(self, scope: str, blob: str) -> tuple[Stored | None, int]:
        check_parts(scope, blob)
        message = await self._bucket.last(self._subjects.meta(scope, blob))
        return (None, 0) if message is None else (read_stored(scope, blob, message.data), message.sequence)

    async def _announce(self, now: Announced, expected: int) -> int:
        subject = self._subjects.upload(now.upload.place)
        return await self._write(now, expected, Write(subject, now.encode(), expected, only=True))

    async def _write(self, going: Announced, sequence: int, *writes: Write) -> int:
        """Write for an upload whose last message is `sequence`; without room for that, drop it. Raises Moved."""
        try:
            return await self._bucket.write(*writes)
        except Full as error:
            await self._drop_full(going, sequence)
            raise StorageUnavailable("the cluster's disks are full: free some space and try again") from error

    async def _drop_full(self, going: Announced, sequence: int) -> bool:
        """Drop an upload without writing anything; False if it has moved on from `sequence` since."""
        if not await self._bucket.purge(self._subjects.upload(going.upload.place), sequence):
            return False
        self._hashes.forget(going.upload.place)
        await self._bucket.purge(self._subjects.chunks(going.nuid))
        return True


@contextlib.contextmanager
def _named_refusals() -> Iterator[None]:
    """What this node's own disk refuses, as StorageUnavailable."""
    try:
        yield
    except OSError as error:
        raise StorageUnavailable("blobs cannot be put aside on this node's disk: see that it has room") from error
