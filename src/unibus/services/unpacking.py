"""Reading a backup's file, once, from front to end: every byte is hashed, nothing is skipped, nothing is interpreted.

What is not byte for byte where the manifest says is refused by name. What is read goes where the caller says, never
where the file says.
"""

from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from unibus.crypto.encoding import b64u
from unibus.errors import BackupInvalid
from unibus.model.backup import (
    BLOCK,
    END,
    MANIFEST,
    MAX_LINE,
    MAX_SEAL,
    SIGNATURE,
    Header,
    Line,
    LogHead,
    Messages,
    Part,
    Records,
    Seal,
    StoredBlob,
    member,
    padding,
    read_line,
    read_seal,
    read_size,
)

READ = 2**20


class Archive:
    """A backup being read. `progress` is told how many bytes have been. Methods raise BackupInvalid. Blocks."""

    def __init__(self, file: BinaryIO, progress: Callable[[int], object]) -> None:
        self._file = file
        self._progress = progress
        self._hasher = sha256()
        self._position = 0

    @property
    def digest(self) -> bytes:
        """The SHA-256 of all that was read so far."""
        return self._hasher.digest()

    def extract_manifest(self, path: Path) -> None:
        """Write the first member to the new file `path`."""
        size = read_size(self._exactly(BLOCK), MANIFEST)
        with path.open("xb") as file:
            for block in self._contents(size):
                file.write(block)

    def expect(self, part: Part) -> Iterator[bytes]:
        """The bytes of the next member, which must be `part`; the iterator must be run to its end."""
        if self._exactly(BLOCK) != member(part.name, part.size):
            raise BackupInvalid(f"where {part.name} should be, there is something else")
        hasher = sha256()
        for block in self._contents(part.size):
            hasher.update(block)
            yield block
        if b64u(hasher.digest()) != (part.id if isinstance(part, StoredBlob) else part.sha256):
            raise BackupInvalid(f"{part.name} was altered")

    def extract(self, part: Part, path: Path) -> None:
        """Write the next member, which must be `part`, to the new file `path`."""
        with path.open("xb") as file:
            for block in self.expect(part):
                file.write(block)

    def signature(self) -> tuple[str, Seal]:
        """The last member: who signed what comes before it, and what they said. Nothing may follow."""
        found = b64u(self.digest)
        size = read_size(self._exactly(BLOCK), SIGNATURE)
        if size > MAX_SEAL:
            raise BackupInvalid("its signature is too long to be one")
        signer, seal = read_seal(b"".join(self._contents(size)))
        if seal.sha256 != found:
            raise BackupInvalid("it is not what was signed: it was altered")
        if self._exactly(len(END)) != END or self._file.read(1):
            raise BackupInvalid("something follows its signature")
        return signer, seal

    def _contents(self, size: int) -> Iterator[bytes]:
        left = size
        while left:
            block = self._exactly(min(READ, left))
            left -= len(block)
            yield block
        if self._exactly(len(padding(size))) != padding(size):
            raise BackupInvalid("there is something between its members")

    def _exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        self._position += len(data)
        if len(data) != size:
            raise BackupInvalid(f"it is cut short after {self._position} bytes: fetch it again")
        self._hasher.update(data)
        self._progress(self._position)
        return data


class Manifest:
    """A manifest in a file: read line by line, in the order that a backup has. Iterators raise BackupInvalid."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def header(self) -> Header:
        """The first line."""
        match next(self._lines(), None):
            case Header() as header:
                return header
            case _:
                raise BackupInvalid("its manifest does not begin as one of this version does")

    def messages(self) -> Messages:
        """The second line."""
        rest = self._lines()
        next(rest, None)
        match next(rest, None):
            case Messages() as messages:
                return messages
            case _:
                raise BackupInvalid("its manifest names no messages")

    def parts(self) -> Iterator[Part]:
        """All members between manifest and signature: the messages, blobs, the records."""
        self.header()
        yield self.messages()
        rest = islice(self._lines(), 2, None)
        for line in rest:
            match line:
                case StoredBlob():
                    yield line
                case Records():
                    yield line
                    break
                case _:
                    raise BackupInvalid("its manifest is out of order")
        else:
            raise BackupInvalid("its manifest names no records")

    def heads(self) -> Iterator[LogHead]:
        """The heads of all logs, which end the manifest."""
        rest = self._lines()
        for line in rest:
            if isinstance(line, Records):
                break
        for line in rest:
            if not isinstance(line, LogHead):
                raise BackupInvalid("its manifest is out of order")
            yield line

    def _lines(self) -> Iterator[Line]:
        with self._path.open("rb") as file:
            while text := file.readline(MAX_LINE + 1):
                if len(text) > MAX_LINE:
                    raise BackupInvalid("its manifest has a line that is too long")
                yield read_line(text)
