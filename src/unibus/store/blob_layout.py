"""How uploads and blobs lie on disk, and the steps between, each of which a crash leaves undone or done.

    uploads/<scope>.<owner>.<id>/   data, progress (size and received, 8 bytes each, big endian)
    held/<scope>/<id>/              data, meta (JSON)
    trash/<random>/                 what is being made or removed; emptied at the start

Making, publishing and removing are each one rename of a directory. No name is ever built from text that was not
checked here. Blocks: call it in a thread.
"""

import contextlib
import os
import secrets
import shutil
import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from unibus.crypto.encoding import b64u, dump_json, load_json, unb64u
from unibus.errors import StorageUnavailable
from unibus.store.blob_port import Held, Place, Upload, check_parts, is_part
from unibus.store.files import sync_directory

if TYPE_CHECKING:
    from hashlib import _Hash

BLOCK = 2**20
_STEP = 256 * 1024
"""Bytes that a processor still has at hand when it hashes what it has just copied."""
_PROGRESS = struct.Struct(">QQ")
_NEW = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_OLD = os.O_CLOEXEC | os.O_NOFOLLOW


class BlobLayout:
    """The directories below `path`. Methods raise OSError as the system does."""

    def __init__(self, path: Path) -> None:
        self._root = path
        self._held, self._uploads, self._trash = (path / name for name in ("held", "uploads", "trash"))

    def prepare(self) -> None:
        """Make the directories, for their owner only, and empty the trash."""
        for directory in (self._held, self._uploads, self._trash):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.chmod(0o700)
        sync_directory(self._root)
        for left in self._trash.iterdir():
            shutil.rmtree(left)

    def begin(self, place: Place, size: int) -> None:
        """Make an empty upload."""
        made = self._trash / secrets.token_hex(16)
        made.mkdir(mode=0o700)
        try:
            _write_new(made / "data", b"")
            _write_new(made / "progress", _PROGRESS.pack(size, 0))
            made.rename(self._upload(place))
        except OSError:
            shutil.rmtree(made, ignore_errors=True)
            raise

    def upload(self, place: Place) -> Upload | None:
        """The upload as it is on disk."""
        return self._read_upload(place, self._upload(place))

    def open_data(self, place: Place) -> int:
        """A descriptor of the upload's bytes, to read and write."""
        return os.open(self._upload(place) / "data", os.O_RDWR | _OLD)

    def received(self, place: Place, size: int, received: int) -> None:
        """Note how many bytes count, and put them on disk now: the last step takes no longer for a larger blob."""
        for name in ("data", "progress"):
            with descriptor_of(os.open(self._upload(place) / name, os.O_WRONLY | _OLD)) as descriptor:
                if name == "progress":
                    os.pwrite(descriptor, _PROGRESS.pack(size, received), 0)
                os.fdatasync(descriptor)

    def publish(self, place: Place, held: Held) -> None:
        """Make the upload at `place` the blob `held`: bytes, then note, then the name, each on disk before the next."""
        upload = self._upload(place)
        (upload / "meta").unlink(missing_ok=True)
        facts = {"note": b64u(held.note), "owner": held.place.owner, "size": held.size, "stored_at": held.stored_at}
        _write_new(upload / "meta", dump_json(facts))
        os.truncate(upload / "data", held.size)  # a part that was cut may have left more
        for name in ("data", "meta"):
            with descriptor_of(os.open(upload / name, os.O_RDONLY | _OLD)) as descriptor:
                os.fsync(descriptor)
        (upload / "progress").unlink()
        sync_directory(upload)
        scope = self._held / held.place.scope
        if not scope.exists():
            scope.mkdir(mode=0o700)
            sync_directory(self._held)
        upload.rename(scope / check_parts(held.place.blob)[0])
        sync_directory(scope)
        sync_directory(self._uploads)

    def find(self, scope: str, blob: str) -> Held | None:
        """The blob's facts."""
        check_parts(scope, blob)
        try:
            facts = load_json((self._held / scope / blob / "meta").read_bytes())
        except FileNotFoundError:
            return None
        match facts:
            case {"note": str(note), "owner": str(owner), "size": int(size), "stored_at": int(stored_at)}:
                return Held(Place(scope, blob, owner), size, unb64u(note), stored_at)
            case _:
                raise StorageUnavailable("a blob's facts are damaged on disk: restore them from a backup")

    def open_held(self, scope: str, blob: str) -> int:
        """A descriptor of a blob's bytes, to read."""
        check_parts(scope, blob)
        return os.open(self._held / scope / blob / "data", os.O_RDONLY | _OLD)

    def names(self, scope: str) -> list[str]:
        """The ids of a scope's blobs, sorted."""
        check_parts(scope)
        try:
            return sorted(path.name for path in (self._held / scope).iterdir() if is_part(path.name))
        except FileNotFoundError:
            return []

    def drop_upload(self, place: Place) -> bool:
        """Remove an upload; whether there was one."""
        return self._drop(self._upload(place))

    def drop_held(self, scope: str, blob: str) -> bool:
        """Remove a blob, durably; whether there was one."""
        check_parts(scope, blob)
        dropped = self._drop(self._held / scope / blob)
        if dropped:
            sync_directory(self._held / scope)
        return dropped

    def uploads(self) -> Iterator[Upload]:
        """All uploads."""
        for path in self._uploads.iterdir():
            match path.name.split("."):
                case [scope, owner, blob]:
                    found = self._read_upload(Place(scope, blob, owner), path)
                    if found is not None:
                        yield found

    def held(self) -> Iterator[Held]:
        """All blobs."""
        for scope in self._held.iterdir():
            for blob in self.names(scope.name):
                found = self.find(scope.name, blob)
                if found is not None:
                    yield found

    def keep(self, target: Path) -> Iterator[Held]:
        """All blobs, the bytes of each given a second name in the new directory `target`."""
        target.mkdir(mode=0o700)
        for held in self.held():
            place = held.place
            with contextlib.suppress(FileNotFoundError):  # removed since it was found
                (target / f"{place.scope}.{place.blob}").hardlink_to(self._held / place.scope / place.blob / "data")
                yield held

    def _upload(self, place: Place) -> Path:
        return self._uploads / ".".join(check_parts(place.scope, place.owner, place.blob))

    def _read_upload(self, place: Place, path: Path) -> Upload | None:
        try:
            size, received = _PROGRESS.unpack((path / "progress").read_bytes())
            return Upload(place, size, received, (path / "progress").stat().st_mtime)
        except FileNotFoundError:
            return None
        except struct.error:
            return Upload(place, 0, 0, 0.0)  # cut off by a lost write: stale at once

    def _drop(self, path: Path) -> bool:
        gone = self._trash / secrets.token_hex(16)
        try:
            path.rename(gone)
        except FileNotFoundError:
            return False
        shutil.rmtree(gone, ignore_errors=True)  # what stays is cleared at the next start
        return True


def _write_new(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | _NEW, 0o600), "wb") as file:
        file.write(data)


def write_pieces(descriptor: int, pieces: Sequence[bytes], position: int, hasher: "_Hash") -> int:
    """Write all of `pieces` from `position` on and add them to the hash; where they end."""
    for piece in pieces:
        view = memoryview(piece)
        while view:
            written = os.pwrite(descriptor, view[:_STEP], position)
            hasher.update(view[:written])
            view, position = view[written:], position + written
    return position


def read_at_hand(descriptor: int, into: memoryview, start: int) -> int:
    """Fill `into` from `start` on, as far as the system has that in memory; how many bytes, 0 where it would wait.

    Never waits for the disk, and so needs no thread, which takes longer to be handed a block than to read it.
    """
    if not hasattr(os, "RWF_NOWAIT"):
        return 0
    try:
        return os.preadv(descriptor, [into], start, os.RWF_NOWAIT)
    except OSError:  # not at hand, or a file system that cannot tell: of any other the one who waits is told again
        return 0


def hash_data(descriptor: int, size: int) -> "_Hash":
    """The SHA-256, to go on with, of the first `size` bytes. Raises OSError when there are fewer."""
    hasher, position = sha256(), 0
    while position < size:
        block = os.pread(descriptor, min(BLOCK, size - position), position)
        if not block:
            raise OSError("a file is shorter than it was")
        hasher.update(block)
        position += len(block)
    return hasher


@contextlib.contextmanager
def descriptor_of(opened: int) -> Iterator[int]:
    """`opened`, closed in the end."""
    try:
        yield opened
    finally:
        os.close(opened)
