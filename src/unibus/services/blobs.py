"""Blobs of rooms: who may store, fetch and delete which, and within what quota. Never sees a key or a plaintext.

Whoever may write in a room may store there, whoever is in it may fetch, and whoever stored a blob or owns the room may
delete it. All is judged on the state at that moment, for each part and, in a long download, for each block.
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing

import structlog

from unibus.crypto.frames import read_envelope, verify_frame
from unibus.errors import Forbidden, FrameInvalid, HeadConflict, InvalidInput, NotFound, TooLarge, UnibusError
from unibus.model.blobs import MAX_MANIFEST, check_blob_id, manifest_purpose
from unibus.model.room import Room
from unibus.services.audit import Audit
from unibus.services.blob_quota import BlobLimits, Ledger
from unibus.services.books import Books
from unibus.services.gate import Gate
from unibus.store.blob_port import BlobStore, Held, Place, Upload

GRACE = 24 * 3600.0  # seconds that an upload may rest, and that a blob of an unknown room is kept

log = structlog.stdlib.get_logger("unibus.blobs")


class Blobs:
    """The blobs of all rooms. `clock` gives Unix seconds; `recount` once before use."""

    def __init__(
        self,
        books: Books,
        gate: Gate,
        store: BlobStore,
        audit: Audit,
        clock: Callable[[], float],
        limits: BlobLimits | None = None,
    ) -> None:
        self._books = books
        self._gate = gate
        self._store = store
        self._audit = audit
        self._clock = clock
        self._ledger = Ledger(limits or BlobLimits())

    @property
    def stored_bytes(self) -> int:
        """What all blobs and uploads count together."""
        return self._ledger.total

    async def recount(self) -> None:
        """Count what is there: at the start, and where other nodes store too, again. Raises StorageUnavailable."""
        known = self._ledger.places()
        uploads, held = await self._store.survey()
        there = {upload.place: upload.size for upload in uploads} | {blob.place: blob.size for blob in held}
        for place in known - there.keys():
            self._ledger.release(place)
        for place, size in there.items():
            self._ledger.note(place, size)

    async def begin(self, actor: str, room: str, blob: str, size: int) -> Upload | Held:
        """Begin an upload of `size` sealed bytes or find it again; the blob, if it is there already.

        Raises NotAUser, NotFound, Forbidden, InvalidInput, TooLarge, QuotaExceeded, UploadConflict.
        """
        place = await self._writable(actor, room, blob)
        held = await self._store.find(room, blob)
        if held is not None:
            return held
        self._ledger.reserve(place, size)
        try:
            upload = await self._store.begin(place, size)
        except UnibusError:
            await self._recount(place)
            raise
        self._ledger.note(place, upload.size)  # another request that failed may have stopped counting it
        return upload

    async def upload(self, actor: str, room: str, blob: str) -> Upload | Held:
        """How far the actor's upload is; the blob, if it is there already. Raises NotFound if it was not begun."""
        place = await self._writable(actor, room, blob)
        found = await self._store.find(room, blob) or await self._store.upload(place)
        if found is None:
            raise NotFound("there is no such upload of yours: begin it")
        return found

    async def receive(
        self, actor: str, room: str, blob: str, offset: int, blocks: AsyncIterator[bytes], through: str | None = None
    ) -> Upload:
        """Take a part of an upload that begins at `offset`. Raises as `BlobStore.receive`."""
        place = await self._writable(actor, room, blob)

        async def while_writable() -> AsyncIterator[bytes]:
            async for block in blocks:
                yield block
            await self._writable(actor, room, blob)  # it may have waited for its turn, and come for minutes

        try:
            return await self._store.receive(place, offset, while_writable(), through)
        except UnibusError:
            await self._recount(place)
            raise

    async def complete(self, actor: str, room: str, upload: str, manifest: bytes, blob: str | None = None) -> Held:
        """Make a whole upload the blob with that id, with its sealed manifest; without an id its name is the id.

        The blob that is there already is answered as it is.

        Raises InvalidInput for a manifest that the actor did not sign for this blob, HeadConflict when it is sealed
        under an epoch that is not the room's, UploadConflict, DigestMismatch.
        """
        place = await self._writable(actor, room, upload)
        final = place if blob is None else Place(room, check_blob_id(blob), actor)
        held = await self._store.find(room, final.blob)
        if held is not None:
            await self._store.abandon(place)
            await self._recount(place)
        else:
            _check_manifest(await self._gate.room(actor, room), actor, final.blob, manifest)
            held = await self._finish(place, final, manifest)
        if held.place == final:  # a repeat is noted too: the entry of the first time may have found the disk full
            await self._audit.done("blob.store", actor=actor, target=final.blob, room=room, size=held.size)
        return held

    async def _finish(self, place: Place, final: Place, manifest: bytes) -> Held:
        try:
            held = await self._store.finish(place, manifest, int(self._clock()), final.blob)
        except UnibusError:
            await self._recount(place)
            await self._recount(final)
            raise
        self._ledger.release(place)
        if held.place == final:
            self._ledger.note(final, held.size)
        return held

    async def abandon(self, actor: str, room: str, blob: str) -> None:
        """Give up an upload. Raises NotFound."""
        place = await self._writable(actor, room, blob)
        if not await self._store.abandon(place):
            raise NotFound("there is no such upload of yours")
        await self._recount(place)

    async def find(self, actor: str, room: str, blob: str) -> Held:
        """A blob's facts, for who is in the room. Raises NotAUser, NotFound, InvalidInput."""
        await self._gate.room(actor, room)
        held = await self._store.find(room, check_blob_id(blob))
        if held is None:
            raise NotFound("there is no such blob for you")
        return held

    async def page(self, actor: str, room: str, after: str, limit: int) -> Sequence[Held]:
        """Up to `limit` blobs of a room with ids above `after`."""
        await self._gate.room(actor, room)
        return await self._store.page(room, after, limit)

    async def read(self, actor: str, held: Held, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `stop`, for as long as the actor is in the room."""
        async with aclosing(self._store.read(held.place.scope, held.place.blob, start, stop)) as blocks:
            async for block in blocks:
                await self._gate.room(actor, held.place.scope)
                yield block

    async def delete(self, actor: str, room: str, blob: str) -> Held:
        """Delete a blob, for its uploader and the room's owners; what was deleted. Raises NotFound, Forbidden."""
        state = await self._gate.room(actor, room)
        held = await self.find(actor, room, blob)
        if actor != held.place.owner and state.role(actor, self._books.directory) != "owner":
            raise Forbidden("only who stored a blob, and an owner of the room, deletes it")
        if await self._store.remove(room, blob) is not None:
            self._ledger.release(held.place)
            await self._audit.done("blob.delete", actor=actor, target=blob, room=room, size=held.size)
        return held

    async def sweep(self) -> int:
        """Drop uploads that rest too long and blobs of rooms without a log; how many. Raises StorageUnavailable."""
        self._books.check_current()  # rooms that are not read yet would pass for rooms that do not exist
        before, dropped = self._clock() - GRACE, 0
        uploads, held = await self._store.survey()
        for upload in uploads:
            if upload.touched < before and await self._store.abandon(upload.place):
                self._ledger.release(upload.place)
                dropped += 1
        for scope in {found.place.scope for found in held}:
            if await self._room_exists(scope):
                continue
            for found in held:
                if found.place.scope == scope and found.stored_at < before:
                    await self._store.remove(scope, found.place.blob)
                    self._ledger.release(found.place)
                    dropped += 1
        if dropped:
            log.info("swept blobs that nothing refers to", dropped=dropped)
        return dropped

    async def drop(self, rooms: Collection[str]) -> Counter[str]:
        """Drop all blobs and uploads of `rooms`, which nobody is in any more; how many bytes of which room.

        Raises StorageUnavailable.
        """
        freed: Counter[str] = Counter()
        uploads, held = await self._store.survey()
        for upload in uploads:
            if upload.place.scope in rooms and await self._store.abandon(upload.place):
                self._ledger.release(upload.place)
                freed[upload.place.scope] += upload.size
        for found in held:
            if found.place.scope in rooms and await self._store.remove(found.place.scope, found.place.blob):
                self._ledger.release(found.place)
                freed[found.place.scope] += found.size
        return freed

    async def _room_exists(self, room: str) -> bool:
        try:
            await self._books.room(room)
        except NotFound:
            return False
        return True

    async def _writable(self, actor: str, room: str, blob: str) -> Place:
        state = await self._gate.room(actor, room)
        if not state.may_write(actor, self._books.directory):
            raise Forbidden("you may fetch blobs from this room, not store any")
        return Place(room, check_blob_id(blob), actor)

    async def _recount(self, place: Place) -> None:
        # Looked at in this order, an upload that becomes a blob meanwhile is seen as one of the two.
        upload = await self._store.upload(place)
        held = await self._store.find(place.scope, place.blob)
        if held is not None and held.place == place:
            self._ledger.note(place, held.size)
        elif upload is not None:
            self._ledger.note(place, upload.size)
        else:
            self._ledger.release(place)


def _check_manifest(room: Room, actor: str, blob: str, manifest: bytes) -> None:
    if len(manifest) > MAX_MANIFEST:
        raise TooLarge(f"a manifest has at most {MAX_MANIFEST} bytes", limit=MAX_MANIFEST)
    try:
        envelope = read_envelope(manifest)
        if envelope.epoch != room.epoch.number:
            raise HeadConflict(
                "the manifest is sealed under another epoch than the room's: fetch what is new and seal it again",
                sequence=room.head.sequence,
                hash=room.head.hash,
            )
        verify_frame(manifest, envelope, room.epoch_ref(envelope.epoch), manifest_purpose(blob))
    except FrameInvalid as error:
        raise InvalidInput("the manifest is not one for this blob: sign it for the room and the blob's id") from error
    if envelope.sender != actor:
        raise Forbidden("a manifest is brought by who signed it")
