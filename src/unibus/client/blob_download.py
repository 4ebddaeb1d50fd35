"""Fetching a blob into a file: opened chunk by chunk, resumed after a cut, and named only when all of it is right.

Until then it lies beside its place under a name that begins with a dot; after a cut it stays there, so that the next
attempt goes on, and what was altered in between is noticed by the hash. Never writes over a file that is there.
"""

import asyncio
import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

import aiohttp

from unibus.client.api import ControlApi
from unibus.client.backoff import delays
from unibus.client.blob_manifests import Blob
from unibus.client.blob_upload import PATIENCE, Progress, blob_path
from unibus.crypto.blobs import CHUNK, SEALED_CHUNK, Opener, Sealer, sealed_size
from unibus.crypto.encoding import b64u
from unibus.errors import BlobInvalid, InvalidInput, UnibusError, Unreachable, reason_of
from unibus.writing import OneAhead, start_writing

_STEP = 8 * CHUNK
"""Bytes that are opened, and so many or nearly twice as many written, at once: a processor still has them at hand."""
_CACHED = 16 * 2**20
"""Bytes before the last that the system may have in memory: it gets new memory for a file much slower than this."""
_STREAM_SECONDS = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=60.0)


class Download:
    """What has come of one blob: `position` is how many sealed bytes. Blocks: call it in a thread."""

    def __init__(self, blob: Blob, descriptor: int) -> None:
        self._blob = blob
        self._descriptor = descriptor
        self._hasher = sha256()
        self.size = sealed_size(blob.size)
        self.position = 0
        self._written = self._handed_on = 0
        self._opener = Opener(blob.key)
        self._plain = memoryview(bytearray(2 * _STEP + CHUNK))

    def take_up(self) -> None:
        """Go on after the whole chunks that an earlier attempt left: sealed again, they give the same bytes to hash."""
        there = os.fstat(self._descriptor).st_size
        kept = min(there, max(0, self._blob.size - 1)) // CHUNK
        os.ftruncate(self._descriptor, kept * CHUNK)
        sealer, sealed = Sealer(self._blob.key), memoryview(bytearray(SEALED_CHUNK))
        for number in range(kept):
            plain = os.pread(self._descriptor, CHUNK, number * CHUNK)
            self._hasher.update(sealed[: sealer.seal(number, plain, sealed, last=False)])
        self._written, self.position = kept * CHUNK, kept * SEALED_CHUNK
        self._opener = Opener(self._blob.key, kept)

    async def add(self, pieces: Sequence[bytes]) -> None:
        """Take the next sealed bytes. Raises BlobInvalid, InvalidInput when the disk does not take them."""
        self.position += sum(map(len, pieces))
        if self.position > self.size:
            raise BlobInvalid("the server sends more than the blob: it was extended")
        # Both threads are outside of the interpreter nearly all the time, and both end before either is heard.
        steps = (asyncio.to_thread(step, pieces) for step in (self._hash, self._open))
        for error in await asyncio.gather(*steps, return_exceptions=True):
            if error is not None:
                raise error

    def _hash(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._hasher.update(piece)

    def _open(self, pieces: Sequence[bytes]) -> None:
        filled = 0
        for piece in pieces:
            view = memoryview(piece)
            while view:
                if filled >= _STEP:
                    self._write(self._plain[:filled])
                    filled = 0
                filled += self._opener.update(view[:_STEP], self._plain[filled:])
                view = view[_STEP:]
        self._write(self._plain[:filled])
        # From further back than what is new: what is on disk by now gives its memory back, to be used again.
        begin = max(0, self._handed_on - _CACHED)
        start_writing(self._descriptor, begin, self._written - begin)
        self._handed_on = self._written

    def finish(self) -> None:
        """All has come. Raises BlobInvalid when it is not the blob."""
        self._write(self._plain[: self._opener.finish(self._plain)])
        if b64u(self._hasher.digest()) != self._blob.id or self._written != self._blob.size:
            raise BlobInvalid("what came is not the blob of that id, though it is sealed with its key")
        os.fsync(self._descriptor)

    def _write(self, view: memoryview) -> None:
        try:
            while view:
                written = os.pwrite(self._descriptor, view, self._written)
                view, self._written = view[written:], self._written + written
        except OSError as error:
            raise InvalidInput(f"cannot write the blob: {reason_of(error)}") from error


async def fetch(api: ControlApi, room: str, blob: Blob, path: Path, progress: Progress) -> None:
    """Fetch `blob` to `path`. Raises BlobInvalid, InvalidInput (what is at `path`), Unreachable, NotFound."""
    partial = path.with_name(f".{path.name[:120]}.{blob.id[:16]}.part")
    with _beside(path, partial) as descriptor:
        download = Download(blob, descriptor)
        try:
            await asyncio.to_thread(download.take_up)
            await _receive(api, room, blob, download, progress)
            await asyncio.to_thread(download.finish)
        except BlobInvalid:
            partial.unlink()
            raise
        _give_name(partial, path)


@contextlib.contextmanager
def _beside(path: Path, partial: Path) -> Iterator[int]:
    if os.path.lexists(path):
        raise InvalidInput(f"there is a {path} already: it is kept; name another place")
    try:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise InvalidInput(f"cannot write beside {path}: {reason_of(error)}") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_nlink != 1:
            # Somebody who may write in this directory could have put it there, to read along or to have a file spoilt.
            raise InvalidInput(f"there is a {partial} that is not this program's own: remove it, or name another place")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor
    except BlockingIOError as error:
        raise InvalidInput(f"another program fetches this blob to {path} now") from error
    finally:
        os.close(descriptor)


def _give_name(partial: Path, path: Path) -> None:
    try:
        os.link(partial, path)  # unlike a rename, this never replaces what somebody put there meanwhile
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {reason_of(error)}") from error
    partial.unlink()


async def _receive(api: ControlApi, room: str, blob: Blob, download: Download, progress: Progress) -> None:
    loop = asyncio.get_running_loop()
    moved, reached, pauses = loop.time(), download.position, delays()
    progress(download.position, download.size)
    while download.position < download.size:
        try:
            await _stream(api, room, blob, download, progress)
        except UnibusError as error:
            if not isinstance(error, Unreachable) and not api.may_go_on(error):
                raise
            if download.position > reached:
                moved, reached, pauses = loop.time(), download.position, delays()
            if loop.time() - moved > PATIENCE:
                raise
            await asyncio.sleep(next(pauses))


async def _stream(api: ControlApi, room: str, blob: Blob, download: Download, progress: Progress) -> None:
    start = download.position

    async def add(pieces: list[bytes]) -> None:
        await download.add(pieces)
        progress(download.position, download.size)

    headers = {"Range": f"bytes={start}-", "If-Range": f'"{blob.id}"'}
    target = blob_path(room, blob.id)
    async with api.exchange("GET", target, headers=headers, patience=_STREAM_SECONDS) as response:
        shown = response.headers.get("Content-Range", "").partition("/")[0]
        if response.status != 206 or shown != f"bytes {start}-{download.size - 1}":
            raise BlobInvalid("the server sends another part of the blob than it was asked for")
        async with OneAhead(add) as adding:
            async for data, _ in response.content.iter_chunks():  # uncopied
                await adding.take(data)
    if download.position < download.size:
        raise BlobInvalid("the blob is cut short: the server ended before its last chunk")
