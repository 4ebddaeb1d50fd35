"""What is to be stored as a blob, in sealed parts: from a file, or from a stream by way of a sealed temporary file.

One key must never seal two contents. A file may change while it is read again, for the next part, another attempt or
after a restart; so all parts are hashed before the first is sent, and each is compared with its hash when it is made
anew. What differs never leaves this machine. Blocks: call it in a thread.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol

from unibus.crypto.blobs import CHUNK, SEALED_CHUNK, seal_chunks, sealed_size
from unibus.crypto.encoding import b64u
from unibus.errors import InvalidInput
from unibus.model.blobs import MAX_PART

PART_CHUNKS = MAX_PART // SEALED_CHUNK
PART = PART_CHUNKS * SEALED_CHUNK
_PLAIN = PART_CHUNKS * CHUNK


class Source(Protocol):
    """Something of `size` plaintext bytes that gives its sealed parts, `PART` bytes each but the last."""

    size: int

    def part(self, number: int) -> bytes:
        """The sealed part, counted from 0. Raises InvalidInput when it cannot be had any more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be sent: the blob's id, its sealed size, and the SHA-256 of each part."""

    id: str
    size: int
    digests: tuple[bytes, ...]


def plan(source: Source) -> Plan:
    """Read the whole source once."""
    whole, digests = sha256(), []
    for number in range(_parts(source.size)):
        part = source.part(number)
        whole.update(part)
        digests.append(sha256(part).digest())
    return Plan(b64u(whole.digest()), sealed_size(source.size), tuple(digests))


def planned_part(source: Source, plan: Plan, number: int) -> bytes:
    """A part that is what was planned. Raises InvalidInput when the source has changed since."""
    part = source.part(number)
    if sha256(part).digest() != plan.digests[number]:
        raise _changed()
    return part


def _changed() -> InvalidInput:
    return InvalidInput("the file changed while it was being stored: put it again when it is at rest")


def _parts(size: int) -> int:
    return max(1, -(-size // _PLAIN))


class FileSource:
    """A file, sealed as it is read."""

    def __init__(self, descriptor: int, key: bytes) -> None:
        self._descriptor = descriptor
        self._key = key
        self.size = os.fstat(descriptor).st_size

    def part(self, number: int) -> bytes:
        """See `Source.part`."""
        start = number * _PLAIN
        wanted = min(_PLAIN, self.size - start)
        plain = _read(self._descriptor, wanted, start)
        if len(plain) != wanted:
            raise _changed()
        return seal_chunks(self._key, plain, number * PART_CHUNKS, ends=start + wanted == self.size)


class SpooledSource:
    """A stream, sealed into a file that has no name."""

    def __init__(self, sealed: BinaryIO, size: int) -> None:
        self._sealed = sealed
        self.size = size

    def part(self, number: int) -> bytes:
        """See `Source.part`."""
        return _read(self._sealed.fileno(), PART, number * PART)


@contextlib.contextmanager
def file_source(path: Path, key: bytes) -> Iterator[FileSource]:
    """The file at `path`. Raises InvalidInput when it is none or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput(f"{path} is not a file: give its bytes on standard input, with - for the path")
        yield FileSource(descriptor, key)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def spooled_source(stream: BinaryIO, key: bytes) -> Iterator[SpooledSource]:
    """All that `stream` gives until its end."""
    with tempfile.TemporaryFile() as sealed:
        size = number = 0
        plain = _fill(stream)
        while True:
            following = _fill(stream)
            sealed.write(seal_chunks(key, plain, number, ends=not following))
            size, number = size + len(plain), number + PART_CHUNKS
            if not following:
                break
            plain = following
        sealed.flush()
        yield SpooledSource(sealed, size)


def _fill(stream: BinaryIO) -> bytes:
    gathered = bytearray()
    while len(gathered) < _PLAIN and (block := stream.read(_PLAIN - len(gathered))):
        gathered += block
    return bytes(gathered)


def _read(descriptor: int, size: int, start: int) -> bytes:
    gathered = bytearray()
    while len(gathered) < size and (block := os.pread(descriptor, size - len(gathered), start + len(gathered))):
        gathered += block
    return bytes(gathered)
