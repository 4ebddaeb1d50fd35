"""The blobs of one room, for its members: put, get, list, delete.

The key of a blob is made here, and leaves only inside the manifest, which is sealed when all parts are there: under
the epoch that is current then, so that whoever was removed during a long upload cannot open it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from yarl import URL

from unibus.client.blob_download import fetch
from unibus.client.blob_manifests import Blob, believe, manifest_epoch, open_manifest, seal_manifest
from unibus.client.blob_parts import Parts
from unibus.client.blob_resume import KeptNotes, Notes
from unibus.client.blob_source import Source, file_source, spooled_source
from unibus.client.blob_upload import JSON, PART_SECONDS, Progress, Sender, blob_path
from unibus.client.messages import Refusal
from unibus.client.races import until_first
from unibus.crypto.encoding import b64u
from unibus.errors import Forbidden, NotFound, UnibusError, Unreachable, Untrusted
from unibus.model.blobs import BlobManifest, check_blob_id, check_blob_name
from unibus.model.wire import BlobComplete, BlobsPage, BlobView
from unibus.writing import keep_memory

if TYPE_CHECKING:
    from unibus.client.bus import Bus
    from unibus.client.room import Room

_KEPT = 32 * 2**20
"""Bytes of memory that stay with a process for its next blob: as many as sending one takes."""


def silent(_done: int, _all: int) -> None:
    """A `Progress` that nobody follows."""


class RoomBlobs:
    """What `Room`'s methods about blobs do."""

    def __init__(self, bus: "Bus", room: "Room") -> None:
        self._bus = bus
        self._room = room

    async def put(
        self,
        source: Path | BinaryIO,
        name: str,
        *,
        media_type: str | None = None,
        resume: Path | None = None,
        progress: Progress = silent,
    ) -> str:
        """Store a file, or all that a stream gives; see `Room.put_blob`."""
        check_blob_name(name)
        keep_memory(_KEPT)
        notes = KeptNotes(resume, self._room.id, source) if resume and isinstance(source, Path) else Notes()
        async with _opened(source, notes.key) as opened:
            parts = Parts(opened, notes)
            if not await asyncio.to_thread(parts.recall):
                # The file has changed since: its key has sealed what was there before, and must seal nothing else.
                notes.forget()
                return await self.put(source, name, media_type=media_type, resume=resume, progress=progress)
            blob = parts.id
            if blob is None or not await self._stored(blob):
                blob = await Sender(self._bus.api, self._room.id, notes.name, parts, progress).send()
                manifest = BlobManifest(name=name, size=opened.size, key=b64u(notes.key), media_type=media_type)
                await self._complete(notes.name, blob, manifest)
            notes.forget()
        return blob

    async def get(self, blob: str, path: Path, progress: Progress = silent) -> Blob:
        """Fetch a blob into a new file; see `Room.get_blob`."""
        keep_memory(_KEPT)
        found = await self.find(blob)
        await fetch(self._bus.api, self._room.id, found, path, progress)
        return found

    async def find(self, blob: str) -> Blob:
        """One blob's verified facts. Raises NotFound, Untrusted errors."""
        view = await self._bus.api.call(BlobView, "GET", blob_path(self._room.id, check_blob_id(blob), "/info"))
        if view.id != blob:
            raise Untrusted("the server shows another blob than it was asked for")
        return await self._verified(view)

    async def list(self, on_refused: Callable[[Refusal], None]) -> list[Blob]:
        """All blobs whose manifests hold and can be opened, by name; of the others `on_refused` is told."""
        found, after = [], ""
        while True:
            target = URL(f"/v1/rooms/{self._room.id}/blobs") % ({"after": after} if after else {})
            page = await self._bus.api.call(BlobsPage, "GET", target)
            for view in page.blobs:
                try:
                    found.append(await self._verified(view))
                except NotFound:
                    continue  # from before this identity joined, in a room whose history is not shared
                except Untrusted as error:
                    on_refused(Refusal(self._room.id, 0, view.uploader, error))
            if page.next is None:
                return sorted(found, key=lambda blob: (blob.name, blob.id))
            if page.next <= after:
                raise Untrusted("the server's list of blobs goes round in circles")
            after = page.next

    async def delete(self, blob: str) -> None:
        """Delete a blob; see `Room.delete_blob`."""
        await self._bus.api.remove(blob_path(self._room.id, check_blob_id(blob)))

    async def _stored(self, blob: str) -> bool:
        """Whether an upload that an earlier process noted to its end has become a blob."""
        try:
            await self._bus.api.call(BlobView, "GET", blob_path(self._room.id, blob, "/info"))
        except NotFound:
            return False
        return True

    async def _complete(self, upload: str, blob: str, manifest: BlobManifest) -> None:
        bus = self._bus

        async def attempt() -> None:
            await bus.replica.sync_directory()
            state = await bus.replica.sync_room(self._room.id)
            if not state.may_write(bus.user, bus.directory):
                raise Forbidden("you may fetch blobs from this room, not store any")
            key = await bus.keyring.current(state)
            while state.rotation_due(bus.directory):  # asked last: nothing changes between this and the key's use
                await self._room.rotate()
                key = await bus.keyring.current(state)
            sealed = seal_manifest(blob, manifest, bus.identity.signing, key, state, bus.directory, time.time())
            body = BlobComplete(manifest=b64u(sealed), id=blob).model_dump_json().encode()
            target = blob_path(self._room.id, upload, "/upload")
            try:
                async with bus.api.exchange("POST", target, body, JSON, patience=PART_SECONDS):
                    return
            except UnibusError as error:
                # Repeated it is answered as the first time. A refusal is not: a full disk has taken the upload along.
                if not isinstance(error, Unreachable) and not bus.api.may_go_on(error):
                    raise
                await bus.api.call(BlobView, "POST", target, body)

        await until_first(attempt)

    async def _verified(self, view: BlobView) -> Blob:
        replica = self._bus.replica
        epoch = manifest_epoch(view)
        room = replica.rooms[self._room.id]
        if epoch not in room.epochs:
            room = await replica.sync_room(self._room.id)
        content = open_manifest(view, await self._bus.keyring.key(room, epoch), room)
        if content.directory_head.sequence > self._bus.directory.head.sequence:
            await replica.sync_directory()
        if content.room_head.sequence > room.head.sequence:
            room = await replica.sync_room(self._room.id)
        return believe(view, content, room, self._bus.directory)


@contextlib.asynccontextmanager
async def _opened(source: Path | BinaryIO, key: bytes) -> AsyncIterator[Source]:
    if isinstance(source, Path):
        with file_source(source, key) as file:
            yield file
        return
    spooled = spooled_source(source, key)
    opened = await asyncio.to_thread(spooled.__enter__)
    try:
        yield opened
    finally:
        await asyncio.to_thread(spooled.__exit__, None, None, None)
