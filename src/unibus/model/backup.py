"""What a backup's file is: a tar of exactly the members that its manifest names, in that order, and a signature.

    manifest.jsonl       one JSON value a line: a header, the parts in the order in which they follow, all logs' heads
    stream.snapshot      the frames, as JetStream writes them
    blobs/<room>/<id>    sealed blobs
    store.sqlite3        records and sealed keys
    signature.jws        by the admin who fetched it, over every byte before this member

Pure. There is one way to write each member's header, so a reader compares instead of interpreting: what a tar could say
beside that (links, other paths, other types, long names) never gets a meaning.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from unibus.crypto import jws
from unibus.crypto.encoding import b64u, dump_json, load_json
from unibus.crypto.nkeys import SigningKey
from unibus.errors import BackupInvalid, InvalidInput, MalformedRecord
from unibus.model.blobs import MAX_MANIFEST, MAX_SIZE
from unibus.model.bodies import Digest, Strict, UserId

BLOCK = 512
"""Bytes, of which a tar has a whole number in each member. POSIX.1-1988 (ustar)."""
END = bytes(2 * BLOCK)
"""How a tar ends."""
MANIFEST, SIGNATURE = "manifest.jsonl", "signature.jws"
MAX_LINE = 16_384
"""Bytes of one line of the manifest."""
MAX_SEAL = 4096
"""Bytes of the signature."""
TYP = "unibus-backup+jws"
Count = Annotated[int, Field(ge=0, le=MAX_SIZE)]
RoomId = Annotated[str, Field(pattern=r"^[a-z2-7]{26}$")]


class Header(Strict):
    """The manifest's first line. `at` is when the backup was begun, Unix seconds by the clock of `node`."""

    kind: Literal["backup"] = "backup"
    version: Literal[1] = 1
    bus: Digest
    at: Count
    node: Annotated[str, Field(max_length=256)]


class Messages(Strict):
    """The frames: `first` and `last` are the stream's sequence numbers, `messages` how many there are."""

    kind: Literal["messages"] = "messages"
    size: Count
    sha256: Digest
    messages: Count
    bytes: Count
    first: Count
    last: Count

    @property
    def name(self) -> str:
        return "stream.snapshot"


class StoredBlob(Strict):
    """A blob: its id is its hash; `note` is the sealed manifest that its owner left; `stored_at` in Unix seconds."""

    kind: Literal["blob"] = "blob"
    room: RoomId
    id: Digest
    size: Count
    owner: UserId
    note: Annotated[str, Field(max_length=MAX_MANIFEST * 4 // 3 + 1)]
    stored_at: Count

    @property
    def name(self) -> str:
        return f"blobs/{self.room}/{self.id}"


class Records(Strict):
    """The store."""

    kind: Literal["store"] = "store"
    size: Count
    sha256: Digest

    @property
    def name(self) -> str:
        return "store.sqlite3"


class LogHead(Strict):
    """The last entry of one of the store's logs."""

    kind: Literal["head"] = "head"
    log: Annotated[str, Field(max_length=512)]
    sequence: Annotated[int, Field(ge=1, le=MAX_SIZE)]
    hash: Digest


Part = Messages | StoredBlob | Records
Line = Header | Part | LogHead
_LINE: TypeAdapter[Line] = TypeAdapter(Annotated[Line, Field(discriminator="kind")])


class Seal(Strict):
    """What an admin signs: that the daemon gave them this, at the Unix time `at` by their own clock."""

    v: Literal[1] = 1
    bus: Digest
    at: Count
    sha256: Digest


def write_line(line: Line) -> bytes:
    """One line of a manifest."""
    return dump_json(line.model_dump()) + b"\n"


def read_line(text: bytes) -> Line:
    """One line of a manifest. Raises BackupInvalid."""
    try:
        return _LINE.validate_python(load_json(text))
    except (ValidationError, InvalidInput) as error:
        raise BackupInvalid("its manifest has a line that is none of a backup") from error


def member(name: str, size: int) -> bytes:
    """The header of one member, `BLOCK` bytes."""
    import tarfile  # here: with its compressions it is large, and backups are rare

    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(tarfile.GNU_FORMAT, "ascii")


def padding(size: int) -> bytes:
    """What follows `size` bytes of a member, up to the next header."""
    return bytes(-size % BLOCK)


def whole(name: str, size: int) -> int:
    """How many bytes a member takes with header and padding."""
    return len(member(name, size)) + size + len(padding(size))


def read_size(block: bytes, name: str) -> int:
    """The size in a header that must be that of member `name`. Raises BackupInvalid."""
    import tarfile

    try:
        size = tarfile.TarInfo.frombuf(block, "ascii", "strict").size
        if size >= 0 and member(name, size) == block:
            return size
    except (tarfile.HeaderError, ValueError):
        pass
    raise BackupInvalid(f"where {name} should be, there is something else")


def write_seal(key: SigningKey, bus: str, at: int, digest: bytes) -> bytes:
    """The signature over all that comes before it, of which `digest` is the SHA-256; `at` is in Unix seconds."""
    return jws.sign(key, TYP, dump_json(Seal(bus=bus, at=at, sha256=b64u(digest)).model_dump()))


def read_seal(token: bytes) -> tuple[str, Seal]:
    """Who signed (`U…`), and what. Raises BackupInvalid."""
    try:
        verified = jws.verify_compact(token, TYP)
        return verified.signer, Seal.model_validate(load_json(verified.payload))
    except (MalformedRecord, InvalidInput, ValidationError) as error:
        raise BackupInvalid("its signature does not hold") from error
