"""Backups of a running bus: copies are put aside at one moment after the other, then streamed as one file.

First the messages, then the blobs, then the records: what a message or a blob refers to is in the records that were
copied after it. Copies lie in a directory of their own and are gone when the backup ends, however it ends; memory stays
the same whatever the size. Holds what the node holds anyway, and no nonces.
"""

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO

from unibus.crypto.encoding import b64u
from unibus.crypto.heads import digest
from unibus.errors import BackupInvalid, LimitReached, NotFound, StorageUnavailable, is_disk_full
from unibus.model.backup import (
    END,
    MANIFEST,
    Header,
    LogHead,
    Messages,
    Part,
    Records,
    StoredBlob,
    member,
    padding,
    read_line,
    whole,
    write_line,
)
from unibus.services.audit import Audit
from unibus.services.books import Books
from unibus.services.gate import Gate
from unibus.services.ports import MessageCopies
from unibus.store.blob_port import BlobStore
from unibus.store.port import Store
from unibus.store.snapshot import read_snapshot

READ = 2**20


@dataclass(frozen=True, slots=True)
class Prepared:
    """A backup whose copies are put aside: how many bytes its file has, and those bytes."""

    size: int
    blocks: AsyncGenerator[bytes, None]


class Backups:
    """Makes one backup at a time, in `work`, which is on the file system of the blobs. `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        books: Books,
        gate: Gate,
        store: Store,
        blobs: BlobStore,
        messages: MessageCopies,
        audit: Audit,
        clock: Callable[[], float],
        node: str,
        work: Path,
    ) -> None:
        self._books = books
        self._gate = gate
        self._store = store
        self._blobs = blobs
        self._messages = messages
        self._audit = audit
        self._clock = clock
        self._node = node
        self._work = work
        self._one = asyncio.Lock()

    @asynccontextmanager
    async def prepare(self, actor: str) -> AsyncIterator[Prepared]:
        """Put copies aside for as long as this is entered, for an admin.

        Raises Forbidden, NotFound without a bus, LimitReached while another backup is made, StorageUnavailable,
        BusUnavailable.
        """
        self._gate.admin(actor)
        if self._one.locked():
            raise LimitReached("another backup is being made: try again when it is done")
        async with self._one:
            try:
                await self._audit.done("backup", actor=actor)
                yield Prepared(await self._put_aside(), self._stream(actor))
            finally:
                await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)

    async def _put_aside(self) -> int:
        try:
            # An earlier one may not have been able to remove its own.
            await asyncio.to_thread(shutil.rmtree, self._work, ignore_errors=True)
            await asyncio.to_thread(self._work.mkdir, mode=0o700)
            return await self._copy()
        except OSError as error:
            reason = "the disk is full" if is_disk_full(error) else "the disk refuses to read or write"
            raise StorageUnavailable(f"the backup cannot be made: {reason}; mend that and try again") from error
        except BackupInvalid as error:
            raise StorageUnavailable(f"the backup cannot be made: {error.message}; restore an older one") from error

    async def _copy(self) -> int:
        """Put everything aside; the size of the backup's file."""
        bus = self._books.directory.bus
        if bus is None:
            raise NotFound("this bus has no users yet")
        size = len(END)
        with (self._work / MANIFEST).open("xb", READ) as manifest:
            manifest.write(write_line(Header(bus=bus, at=int(self._clock()), node=self._node)))
            async for part in self._parts():
                manifest.write(write_line(part))
                size += whole(part.name, part.size)
            await asyncio.to_thread(write_heads, self._work / "store.sqlite3", manifest)
            length = manifest.tell()
        return size + whole(MANIFEST, length)

    async def _parts(self) -> AsyncGenerator[Part, None]:
        path = self._work / "stream.snapshot"
        state = await self._messages.snapshot(path)
        size, found = await asyncio.to_thread(measure, path)
        yield Messages(
            size=size, sha256=found, messages=state.messages, bytes=state.bytes, first=state.first, last=state.last
        )
        async for held in self._blobs.snapshot(self._work / "blobs"):
            yield StoredBlob(
                room=held.place.scope,
                id=held.place.blob,
                size=held.size,
                owner=held.place.owner,
                note=b64u(held.note),
                stored_at=held.stored_at,
            )
        path = self._work / "store.sqlite3"
        await self._store.snapshot(path)
        size, found = await asyncio.to_thread(measure, path)
        yield Records(size=size, sha256=found)

    async def _stream(self, actor: str) -> AsyncGenerator[bytes, None]:
        path = self._work / MANIFEST
        yield member(MANIFEST, path.stat().st_size)
        async for block in self._read(actor, path, path.stat().st_size, None):
            yield block
        with path.open("rb") as manifest:
            for text in manifest:
                match read_line(text):
                    case StoredBlob() as part:
                        path, wanted = self._work / "blobs" / f"{part.room}.{part.id}", part.id
                    case Messages() | Records() as part:
                        path, wanted = self._work / part.name, part.sha256
                    case _:
                        continue
                yield member(part.name, part.size)
                async for block in self._read(actor, path, part.size, wanted):
                    yield block
        yield END

    async def _read(self, actor: str, path: Path, size: int, wanted: str | None) -> AsyncGenerator[bytes, None]:
        """One member's bytes and what pads them, for as long as the actor is an admin."""
        hasher = sha256()
        with path.open("rb") as file:
            left = size
            while block := await asyncio.to_thread(file.read, min(READ, left)):
                left -= len(block)
                await asyncio.to_thread(hasher.update, block)
                self._gate.admin(actor)
                yield block
        if left or (wanted is not None and b64u(hasher.digest()) != wanted):
            raise StorageUnavailable(f"{path.name} is damaged on disk: a backup with it could not be restored")
        yield padding(size)


def measure(path: Path) -> tuple[int, str]:
    """How many bytes a file has, and their SHA-256."""
    with path.open("rb") as file:
        found = b64u(file_digest(file, "sha256").digest())
        return file.tell(), found


def write_heads(store: Path, manifest: BinaryIO) -> None:
    """Write the heads of all logs in a copy of the store to the end of a manifest. Raises BackupInvalid."""
    with read_snapshot(store) as snapshot:
        for log, sequence, last in snapshot.heads():
            manifest.write(write_line(LogHead(log=log, sequence=sequence, hash=b64u(digest(last)))))
