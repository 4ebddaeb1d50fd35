"""What is to be stored as a blob, in sealed parts: from a file, or from a stream by way of a sealed temporary file.

Each part is read, sealed and hashed once, chunk by chunk, into memory that is there already. Blocks: call it in a
thread.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from unibus.crypto.blobs import CHUNK, SEALED_CHUNK, Sealer, chunks, sealed_size
from unibus.errors import InvalidInput, reason_of
from unibus.model.blobs import MAX_PART

if TYPE_CHECKING:
    from hashlib import _Hash

PART_CHUNKS = MAX_PART // SEALED_CHUNK
PART = PART_CHUNKS * SEALED_CHUNK


class Source(Protocol):
    """Something of `size` plaintext bytes that gives its sealed parts, `PART` bytes each but the last."""

    size: int

    def part(self, number: int, into: memoryview, hasher: "_Hash") -> int:
        """Put the sealed part, counted from 0, to the beginning of `into`, and add it to the hash; how many bytes.

        Raises InvalidInput when it cannot be had any more.
        """


def changed() -> InvalidInput:
    """What is said of a file that is not what it was."""
    return InvalidInput("the file changed while it was being stored: put it again when it is at rest")


class FileSource:
    """A file, sealed as it is read. It has changed when its size or the time of its last change has."""

    def __init__(self, descriptor: int, key: bytes) -> None:
        self._descriptor = descriptor
        self._sealer = Sealer(key)
        self._state = self._look()
        self.size = self._state[0]
        self._plain = memoryview(bytearray(CHUNK))

    def part(self, number: int, into: memoryview, hasher: "_Hash") -> int:
        """See `Source.part`."""
        filled, last = 0, chunks(self.size) - 1
        for chunk in range(number * PART_CHUNKS, min((number + 1) * PART_CHUNKS, last + 1)):
            plain = self._plain[: self.size - chunk * CHUNK]
            if _read(self._descriptor, plain, chunk * CHUNK) != len(plain):
                raise changed()
            sealed = into[filled : filled + self._sealer.seal(chunk, plain, into[filled:], last=chunk == last)]
            hasher.update(sealed)
            filled += len(sealed)
        if self._look() != self._state:
            raise changed()
        return filled

    def _look(self) -> tuple[int, int]:
        facts = os.fstat(self._descriptor)
        return facts.st_size, facts.st_mtime_ns


class SpooledSource:
    """A stream, sealed into a file that has no name."""

    def __init__(self, sealed: BinaryIO, size: int) -> None:
        self._sealed = sealed
        self.size = size

    def part(self, number: int, into: memoryview, hasher: "_Hash") -> int:
        """See `Source.part`."""
        wanted = into[: min(PART, sealed_size(self.size) - number * PART)]
        if _read(self._sealed.fileno(), wanted, number * PART) != len(wanted):
            raise InvalidInput("the temporary file that holds the stream is cut short: put it again")
        hasher.update(wanted)
        return len(wanted)


@contextlib.contextmanager
def file_source(path: Path, key: bytes) -> Iterator[FileSource]:
    """The file at `path`. Raises InvalidInput when it is none or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {reason_of(error)}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput(f"{path} is not a file: give its bytes on standard input, with - for the path")
        yield FileSource(descriptor, key)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def spooled_source(stream: BinaryIO, key: bytes) -> Iterator[SpooledSource]:
    """All that `stream` gives until its end."""
    sealer, into = Sealer(key), memoryview(bytearray(SEALED_CHUNK))
    with tempfile.TemporaryFile() as sealed:
        size = number = 0
        plain = _fill(stream)
        while True:
            following = _fill(stream)
            sealed.write(into[: sealer.seal(number, plain, into, last=not following)])
            size, number = size + len(plain), number + 1
            if not following:
                break
            plain = following
        sealed.flush()
        yield SpooledSource(sealed, size)


def _fill(stream: BinaryIO) -> bytes:
    gathered = stream.read(CHUNK)
    while 0 < len(gathered) < CHUNK and (block := stream.read(CHUNK - len(gathered))):
        gathered += block
    return gathered


def _read(descriptor: int, into: memoryview, start: int) -> int:
    """How many bytes from `start` on could be read into `into`: fewer than it takes only at the end."""
    filled = 0
    while filled < len(into) and (size := os.preadv(descriptor, [into[filled:]], start + filled)):
        filled += size
    return filled
