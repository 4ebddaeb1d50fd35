"""Putting a bus back from a backup, on the host, while no daemon runs: verify everything, then let it in at once.

All is put together in a directory of its own below the data directory, and becomes the bus by a rename once everything
about it holds. Until then nothing else there is touched, and whatever ends this before leaves the directory as it was.
"""

import contextlib
import logging
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import structlog

from unibus.bus.options import BusOptions
from unibus.bus.private import restore_stream
from unibus.crypto.encoding import unb64u
from unibus.crypto.httpsig import WINDOW
from unibus.daemon.data_dir import BLOBS, RESTORING, STORE, DataDir
from unibus.errors import BackupInvalid, BusUnavailable, StartRefused, StorageUnavailable, is_disk_full, reason_of
from unibus.model.backup import MANIFEST, Header, Messages, Records, Seal, StoredBlob
from unibus.services.audit import Audit
from unibus.services.ports import StreamState
from unibus.services.restores import note_restore
from unibus.services.unpacking import Archive, Manifest
from unibus.services.verifying import Verified, verify_blob, verify_records
from unibus.store.blob_files import FileBlobs
from unibus.store.blob_port import Place
from unibus.store.files import sync_tree
from unibus.store.snapshot import read_snapshot
from unibus.store.sqlite import SqliteStore

# What fails is raised; the private server's own log would only come between the lines that a person reads.
_LOG = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
Progress = Callable[[str, int, int | None], object]
"""Told what is being done, how far it is, and of how much where that is known."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back: the bus, when and by whom its backup was made, and how much it holds."""

    bus: str
    at: int
    user: str
    handle: str
    rooms: int
    records: int
    messages: int
    blobs: int


async def restore(
    path: Path, data_dir: Path, *, nats_server: Path | None, clock: Callable[[], float], progress: Progress
) -> Restored:
    """Put the bus in the backup at `path` into `data_dir`. `clock` gives Unix seconds.

    Raises BackupInvalid for what does not verify; StartRefused when the directory is in use or holds a bus, when the
    clock is wrong or there is no nats-server to use; StorageUnavailable when the disk does not take it.
    """
    with _new_or_empty(data_dir) as held:
        work = data_dir / RESTORING
        try:
            work.mkdir(mode=0o700)
            restored = await _Restore(work, clock, progress).run(path, nats_server)
            progress("writing to disk", 0, None)
            sync_tree(work)
            held.commit()
        except OSError as error:
            reason = "the disk is full" if is_disk_full(error) else reason_of(error)
            raise StorageUnavailable(f"the backup cannot be restored: {reason}; mend that and try again") from error
        except BackupInvalid as error:
            raise BackupInvalid(f"{path} is not a backup to restore: {error.message}") from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return restored


@contextlib.contextmanager
def _new_or_empty(path: Path) -> Iterator[DataDir]:
    """The data directory, held; as it was before when this ends in an error."""
    made = not path.exists()
    had_lock = (path / "lock").exists()
    with DataDir(path) as held:
        if held.holds_bus:
            raise StartRefused(f"{path} holds a bus already: move it away, or name another --data-dir")
        try:
            yield held
        except BaseException:
            if not had_lock:
                (path / "lock").unlink()
            if made:
                with contextlib.suppress(OSError):  # somebody else has put something there
                    path.rmdir()
            raise


class _Restore:
    """One restore into `work`, step by step."""

    def __init__(self, work: Path, clock: Callable[[], float], progress: Progress) -> None:
        self._work = work
        self._clock = clock
        self._progress = progress

    async def run(self, path: Path, nats_server: Path | None) -> Restored:
        manifest = Manifest(self._work / MANIFEST)
        signer, seal = await self._unpack(path, manifest)
        header, messages = manifest.header(), manifest.messages()
        verified = self._verify_records(manifest, header)
        if seal.bus != header.bus:
            raise BackupInvalid("it was signed for another bus")
        if not verified.directory.is_admin(signer):
            raise BackupInvalid("it is not signed by an admin of its bus")
        blobs = 0
        for part in manifest.parts():
            if isinstance(part, StoredBlob):
                verify_blob(part, verified)
                blobs += 1
        now = int(self._clock())
        # The floor under signed requests is set by this clock. What the node's own has seen tells when it is behind.
        if max(header.at, verified.latest) > now + WINDOW:
            raise StartRefused("this machine's clock is behind the backup: set it first")
        await self._restore_messages(messages, header.node, nats_server)
        await self._note(header.node, signer, seal.sha256, now)
        for used in (MANIFEST, messages.name):
            (self._work / used).unlink()
        shutil.rmtree(self._work / "run")
        return Restored(
            bus=header.bus,
            at=seal.at,
            user=signer,
            handle=verified.directory.handle_of(signer),
            rooms=len(verified.epochs),
            records=verified.records,
            messages=messages.messages,
            blobs=blobs,
        )

    async def _unpack(self, path: Path, manifest: Manifest) -> tuple[str, Seal]:
        blobs = await FileBlobs.open(self._work / BLOBS)
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            archive = Archive(file, lambda done: self._progress("reading", done, size))
            archive.extract_manifest(self._work / MANIFEST)
            for part in manifest.parts():
                match part:
                    case Messages():
                        archive.extract(part, self._work / part.name)
                    case Records():
                        archive.extract(part, self._work / STORE)
                    case StoredBlob():
                        place = Place(part.room, part.id, part.owner)
                        await blobs.begin(place, part.size)
                        await blobs.receive(place, 0, _each(archive.expect(part)))
                        await blobs.finish(place, unb64u(part.note), part.stored_at)
            return archive.signature()

    def _verify_records(self, manifest: Manifest, header: Header) -> Verified:
        total = sum(head.sequence for head in manifest.heads())
        numbers = count(1)

        def progress() -> None:
            self._progress("verifying", next(numbers), total)

        with read_snapshot(self._work / STORE) as snapshot:
            return verify_records(snapshot, header.bus, manifest.heads(), progress)

    async def _restore_messages(self, part: Messages, node: str, nats_server: Path | None) -> None:
        self._progress("restoring messages", 0, None)
        options = BusOptions(self._work, port=0, binary=nats_server, node=node)
        state = StreamState(part.messages, part.bytes, part.first, part.last)
        try:
            await restore_stream(options, self._work / part.name, state, secrets.token_bytes, _LOG)
        except BusUnavailable as error:
            raise StorageUnavailable(f"the messages cannot be restored: {error.message}") from error

    async def _note(self, node: str, signer: str, backup: str, now: int) -> None:
        store = await SqliteStore.open(self._work / STORE)
        try:
            await note_restore(store, now, backup)
            audit = Audit(store, node, self._clock)
            await audit.done("restore", actor="-", target=signer, backup=backup)
        finally:
            await store.close()


async def _each(blocks: Iterator[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block
