"""Blobs in files: implements `unibus.store.blob_port.BlobStore` for one node.

Memory stays the same whatever the size of a blob: two blocks a transfer. All that waits for the disk runs in threads; a
step that has begun there ends before anything else touches the same upload, also when who asked for it is gone.
Must never give out a byte of an upload, nor take one of a part whose sender was overtaken.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Coroutine
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from unibus.crypto.encoding import b64u
from unibus.errors import (
    DigestMismatch,
    NotFound,
    StartRefused,
    StorageUnavailable,
    TooLarge,
    UploadConflict,
    is_disk_full,
)
from unibus.store.blob_layout import BLOCK, BlobLayout, descriptor_of, hash_data, read_at_hand, write_pieces
from unibus.store.blob_order import PartOrder
from unibus.store.blob_port import GONE, MIXED_UP, Held, Place, Upload
from unibus.writing import GATHER, OneAhead, keep_memory

if TYPE_CHECKING:
    from hashlib import _Hash

P = ParamSpec("P")
T = TypeVar("T")


def _refusal(error: OSError) -> StorageUnavailable:
    if is_disk_full(error):
        return StorageUnavailable("the disk is full: free some space and try again, no restart is needed")
    return StorageUnavailable("the disk refuses to read or write blobs: see the daemon's log and the system's")


async def _to_its_end(step: Coroutine[object, object, T]) -> T:
    """What `step` gives, which is waited for to its end even when cancelled."""
    task = asyncio.ensure_future(step)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`work` in a thread, to its end: its descriptor must not be closed under it."""
    try:
        return await _to_its_end(asyncio.to_thread(work, *args, **kwargs))
    except OSError as error:
        raise _refusal(error) from error


class _Going:
    """An upload that this process has touched: what came in whole parts, their hash, and whose turn it is to send.

    Of what `came`, `received` bytes are on disk and count; whoever puts more there holds `syncing`.
    """

    __slots__ = ("came", "hasher", "lock", "order", "received", "size", "syncing", "turn")

    def __init__(self, size: int, received: int, hasher: "_Hash | None") -> None:
        self.size = size
        self.came = self.received = received
        self.hasher = hasher
        self.turn = 0
        self.order = PartOrder()
        self.syncing = asyncio.Lock()  # before `lock`, where one has both
        self.lock = asyncio.Lock()

    def check_offset(self, offset: int) -> None:
        """Raises UploadConflict for a part that does not begin where the upload goes on."""
        if offset != self.came:
            raise UploadConflict(f"the upload goes on at {self.received}", offset=self.received)

    def check_turn(self, turn: int) -> None:
        """Raises UploadConflict for who was overtaken."""
        if self.turn != turn:
            raise UploadConflict("another request sends this upload now", offset=self.received)


class FileBlobs:
    """Uploads and blobs below one directory. Made by `open`."""

    def __init__(self, layout: BlobLayout) -> None:
        self._layout = layout
        self._going: dict[Place, _Going] = {}
        self._making = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> "FileBlobs":
        """The blobs below `path`, made if need be. Raises StartRefused."""
        keep_memory(8 * GATHER)
        layout = BlobLayout(path)
        try:
            await _in_thread(layout.prepare)
        except StorageUnavailable as error:
            raise StartRefused(f"cannot keep blobs in {path}: {error.__cause__}; mend it first") from error
        return cls(layout)

    async def begin(self, place: Place, size: int) -> Upload:
        """See `BlobStore.begin`."""
        async with self._making:
            found = await self.upload(place)
            if found is None:
                await _in_thread(self._layout.begin, place, size)
                self._going[place] = _Going(size, 0, sha256())
                return Upload(place, size, 0, 0.0)
        if found.size != size:
            raise UploadConflict(f"this upload was begun with {found.size} bytes: give it up first", offset=0)
        return found

    async def upload(self, place: Place) -> Upload | None:
        """See `BlobStore.upload`."""
        return await _in_thread(self._layout.upload, place)

    async def receive(
        self, place: Place, offset: int, blocks: AsyncIterator[bytes], through: str | None = None
    ) -> Upload:
        """See `BlobStore.receive`."""
        going = await self._find_going(place)
        async with going.order.after_earlier(offset):
            if offset < going.came:
                async with going.syncing:
                    pass  # it is refused, but is to be told only of what is on disk
            position = await self._come(place, going, offset, blocks, through)
        await _to_its_end(self._keep(place, going, position))
        return Upload(place, going.size, position, 0.0)

    async def _keep(self, place: Place, going: _Going, position: int) -> None:
        """Put what came on disk, `position` bytes at least, while the next part comes."""
        async with going.syncing:
            if self._going.get(place) is not going:
                raise NotFound(GONE)
            came = going.came
            if going.received < position:
                try:
                    await _in_thread(self._layout.received, place, going.size, came)
                except StorageUnavailable:
                    # Nobody knows what is on disk now, and the next sync may not tell: whoever waits for it must not
                    # have its turn before the upload is gone.
                    async with going.lock:
                        going.turn += 1
                        await self._drop(place)
                    raise
                going.received = came

    async def _come(
        self, place: Place, going: _Going, offset: int, blocks: AsyncIterator[bytes], through: str | None
    ) -> int:
        """Take a part and check it; where it ends."""
        with descriptor_of(await self._open(place)) as descriptor:
            async with going.lock:
                if self._going.get(place) is not going:
                    raise NotFound(GONE)
                going.check_offset(offset)
                going.turn += 1
                turn = going.turn
                hasher = (await self._hash(going, descriptor)).copy()
            try:
                position = await self._take(going, turn, descriptor, hasher, blocks)
            except StorageUnavailable:
                if self._going.get(place) is going:  # and not another that was begun under its name meanwhile
                    await self.abandon(place)
                raise
        async with going.lock:
            going.check_turn(turn)
            if through is not None and b64u(hasher.digest()) != through:
                raise DigestMismatch(MIXED_UP)
            going.came, going.hasher = position, hasher
        return position

    async def _take(
        self, going: _Going, turn: int, descriptor: int, hasher: "_Hash", blocks: AsyncIterator[bytes]
    ) -> int:
        position = come = going.came

        async def write(pieces: list[bytes]) -> None:
            nonlocal position
            async with going.lock:
                going.check_turn(turn)
                position = await _in_thread(write_pieces, descriptor, pieces, position, hasher)

        async with OneAhead(write) as writing:
            async for piece in blocks:
                come += len(piece)
                if come > going.size:
                    raise TooLarge(f"the part goes beyond the upload's {going.size} bytes")
                await writing.take(piece)
        return position

    async def finish(self, place: Place, note: bytes, stored_at: int, blob: str | None = None) -> Held:
        """See `BlobStore.finish`."""
        going = await self._find_going(place)
        async with going.syncing, going.lock:
            if going.received != going.size:
                raise UploadConflict(f"the upload goes on at {going.received}", offset=going.received)
            going.turn += 1
            with descriptor_of(await self._open(place)) as descriptor:
                hasher = await self._hash(going, descriptor)
            final = place._replace(blob=blob or place.blob)
            if b64u(hasher.digest()) != final.blob:
                await self._drop(place)
                raise DigestMismatch("what came does not have the hash that is the blob's id: send it again")
            async with self._making:
                return await self._publish(place, Held(final, going.size, note, stored_at))

    async def _publish(self, place: Place, held: Held) -> Held:
        found = await self.find(held.place.scope, held.place.blob)
        if found is None:
            try:
                await _in_thread(self._layout.publish, place, held)
            except StorageUnavailable:
                await self._drop(place)
                raise
            self._going.pop(place, None)
            return held
        await self._drop(place)
        return found

    async def abandon(self, place: Place) -> bool:
        """See `BlobStore.abandon`."""
        going = self._going.get(place)
        if going is None:
            return await self._drop(place)
        async with going.syncing, going.lock:
            going.turn += 1
            return await self._drop(place)

    async def find(self, scope: str, blob: str) -> Held | None:
        """See `BlobStore.find`."""
        return await _in_thread(self._layout.find, scope, blob)

    async def page(self, scope: str, after: str, limit: int) -> list[Held]:
        """See `BlobStore.page`."""

        def look() -> list[Held]:
            names = [name for name in self._layout.names(scope) if name > after][:limit]
            return [held for name in names if (held := self._layout.find(scope, name)) is not None]

        return await _in_thread(look)

    async def read(self, scope: str, blob: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """See `BlobStore.read`."""
        try:
            opened = await _in_thread(self._layout.open_held, scope, blob)
        except StorageUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotFound("there is no such blob for you") from error
            raise
        with descriptor_of(opened) as descriptor:
            buffer = memoryview(bytearray(min(BLOCK, stop - start)))
            while start < stop:
                wanted = buffer[: stop - start]
                block = bytes(wanted[: read_at_hand(descriptor, wanted, start)])
                if not block:
                    block = await _in_thread(os.pread, descriptor, len(wanted), start)
                if not block:
                    raise StorageUnavailable("a blob is shorter on disk than it was: restore it from a backup")
                yield block
                start += len(block)

    async def snapshot(self, target: Path) -> AsyncGenerator[Held, None]:
        """See `BlobStore.snapshot`."""
        kept = self._layout.keep(target)
        while (held := await _in_thread(next, kept, None)) is not None:
            yield held

    async def remove(self, scope: str, blob: str) -> Held | None:
        """See `BlobStore.remove`."""
        found = await self.find(scope, blob)
        return found if found is not None and await _in_thread(self._layout.drop_held, scope, blob) else None

    async def survey(self) -> tuple[Collection[Upload], Collection[Held]]:
        """See `BlobStore.survey`."""
        return await _in_thread(lambda: (list(self._layout.uploads()), list(self._layout.held())))

    async def _find_going(self, place: Place) -> _Going:
        if place not in self._going:
            found = await self.upload(place)
            if found is None:
                raise NotFound(GONE)
            self._going.setdefault(place, _Going(found.size, found.received, None))
        return self._going[place]

    async def _open(self, place: Place) -> int:
        try:
            return await _in_thread(self._layout.open_data, place)
        except StorageUnavailable as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise NotFound(GONE) from error
            raise

    async def _hash(self, going: _Going, descriptor: int) -> "_Hash":
        if going.hasher is None:
            going.hasher = await _in_thread(hash_data, descriptor, going.received)
        return going.hasher

    async def _drop(self, place: Place) -> bool:
        self._going.pop(place, None)
        return await _in_thread(self._layout.drop_upload, place)
