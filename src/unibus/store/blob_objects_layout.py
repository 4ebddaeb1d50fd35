"""How uploads and blobs lie in a bucket of JetStream's object store (NATS ADR-20). Pure.

    $O.<bucket>.C.<nuid>                     the chunks of one upload or blob, in order; each says the offset it has
    $O.<bucket>.U.<scope>.<owner>.<blob>     the state of an upload: what counts of it, and whose turn it is
    $O.<bucket>.M.<base64url of the name>    a blob: what ADR-20 has of an object called <scope>/<blob>, in JSON
    $O.<bucket>.N.<scope>.<blob>             nothing; lists the blobs of one scope
    $O.<bucket>.B                            nothing; written to learn that the stream's leader has a quorum

A stock object-store client sees C and M, and so lists and gets blobs. No subject is ever built from text that was not
checked here.
"""

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from unibus.crypto.encoding import b64u, dump_json, load_json, unb64u
from unibus.errors import InvalidInput, StorageUnavailable, TooLarge
from unibus.store.blob_port import Held, Place, Upload, check_parts, is_part

CHUNK = 128 * 1024
"""Bytes of a chunk, as most object-store clients cut them; the last of a part has fewer."""
BATCH = 16 * CHUNK
"""Bytes that are acknowledged at once."""
OFFSET = "Unibus-Offset"
_MARKS = 256
_ROLLUP = {"Nats-Rollup": "sub"}

Marks = tuple[tuple[int, int], ...]
"""Pairs of an offset, where a chunk begins, and that chunk's sequence in the stream; ascending, the first at 0."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """The names of one bucket."""

    bucket: str

    @property
    def stream(self) -> str:
        return f"OBJ_{self.bucket}"

    @property
    def barrier(self) -> str:
        return f"$O.{self.bucket}.B"

    def all(self, kind: str) -> str:
        """What matches all subjects of a kind: C, U, M or N."""
        return f"$O.{self.bucket}.{kind}.>"

    def chunks(self, nuid: str) -> str:
        return f"$O.{self.bucket}.C.{nuid}"

    def upload(self, place: Place) -> str:
        return f"$O.{self.bucket}.U.{'.'.join(check_parts(place.scope, place.owner, place.blob))}"

    def meta(self, scope: str, blob: str) -> str:
        name = "/".join(check_parts(scope, blob)).encode()
        return f"$O.{self.bucket}.M.{base64.urlsafe_b64encode(name).decode()}"

    def listed(self, scope: str, blob: str) -> str:
        return f"$O.{self.bucket}.N.{'.'.join(check_parts(scope, blob))}"

    def scope(self, scope: str) -> str:
        """What matches the subjects that list a scope's blobs."""
        return f"$O.{self.bucket}.N.{check_parts(scope)[0]}.*"


def settings(subjects: Subjects, replicas: int) -> dict[str, object]:
    """The stream to make: ADR-20's, with subjects of our own and atomic batches besides."""
    return {
        "name": subjects.stream,
        "subjects": [*map(subjects.all, "CMUN"), subjects.barrier],
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "allow_atomic": True,
    }


@dataclass(frozen=True, slots=True)
class Write:
    """A message to publish if the last on `guard`, its own subject by default, has the sequence `expected`."""

    subject: str
    data: bytes
    expected: int | None = None
    guard: str | None = None
    only: bool = False
    """Whether all that is on the subject goes as this comes."""
    offset: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        headers = dict(_ROLLUP) if self.only else {}
        if self.expected is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(self.expected)
        if self.guard is not None:
            headers["Nats-Expected-Last-Subject-Sequence-Subject"] = self.guard
        if self.offset is not None:
            headers[OFFSET] = str(self.offset)
        return headers


class State(StrEnum):
    """What an upload is in. DONE and DROPPED are no uploads any more; what is left of them may be cleared away."""

    OPEN = "open"
    TAKING = "taking"
    """A part is on its way, or was cut: there may be chunks that do not count."""
    DONE = "done"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class Announced:
    """An upload as its message says it. `chunks` is how many count, `last` the sequence of the last that does."""

    upload: Upload
    nuid: str
    state: State = State.OPEN
    chunks: int = 0
    last: int = 0
    marks: Marks = ()

    @property
    def live(self) -> bool:
        return self.state in {State.OPEN, State.TAKING}

    def encode(self) -> bytes:
        facts = {
            "nuid": self.nuid,
            "state": self.state,
            "size": self.upload.size,
            "received": self.upload.received,
            "touched": self.upload.touched,
            "chunks": self.chunks,
            "last": self.last,
            "marks": self.marks,
        }
        return dump_json(facts)


def read_announced(subject: str, data: bytes) -> Announced:
    """The upload that a message announces. Raises StorageUnavailable for anything else."""
    scope, owner, blob = subject.split(".")[-3:]
    match _json(data):
        case {
            "nuid": str(nuid),
            "state": str(state),
            "size": int(size),
            "received": int(received),
            "touched": int(touched) | float(touched),
            "chunks": int(chunks),
            "last": int(last),
            "marks": list(marks),
        } if state in list(State) and is_part(nuid):
            upload = Upload(Place(scope, blob, owner), size, received, touched)
            return Announced(upload, nuid, State(state), chunks, last, _marks(marks))
        case _:
            raise _damaged()


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob and where its chunks are."""

    held: Held
    nuid: str
    chunks: int
    marks: Marks

    def encode(self, bucket: str) -> bytes:
        """ADR-20's object: digest and name with the padding that its clients want."""
        place, moment = self.held.place, datetime.fromtimestamp(self.held.stored_at, UTC)
        digest = base64.urlsafe_b64encode(unb64u(place.blob)).decode()
        facts = {
            "name": f"{place.scope}/{place.blob}",
            "bucket": bucket,
            "nuid": self.nuid,
            "size": self.held.size,
            "chunks": self.chunks,
            "digest": f"SHA-256={digest}",
            "mtime": moment.isoformat().replace("+00:00", "Z"),
            "options": {"max_chunk_size": CHUNK},
            "metadata": {
                "unibus-owner": place.owner,
                "unibus-note": b64u(self.held.note),
                "unibus-stored-at": str(self.held.stored_at),
                "unibus-marks": json.dumps(self.marks, separators=(",", ":")),
            },
        }
        return dump_json(facts)


def read_stored(scope: str, blob: str, data: bytes) -> Stored | None:
    """The blob that a message on its subject says there is, None for what a stock client leaves where it deletes one.

    Raises StorageUnavailable for anything else.
    """
    match _json(data):
        case {"deleted": True}:
            return None
        case {
            "nuid": str(nuid),
            "size": int(size),
            "chunks": int(chunks),
            "metadata": {
                "unibus-owner": str(owner),
                "unibus-note": str(note),
                "unibus-stored-at": str(stored_at),
                "unibus-marks": str(marks),
            },
        } if is_part(nuid) and stored_at.isdecimal():
            held = Held(Place(scope, blob, owner), size, unb64u(note), int(stored_at))
            return Stored(held, nuid, chunks, _marks(_json(marks)))
        case _:
            raise _damaged()


def place_named(subject: str) -> tuple[str, str] | None:
    """Scope and blob that the subject of a blob names, None for an object that somebody else put there."""
    try:
        name = base64.urlsafe_b64decode(subject.rpartition(".")[2]).decode()
    except ValueError:
        return None
    match name.split("/"):
        case [scope, blob] if is_part(scope) and is_part(blob):
            return scope, blob
        case _:
            return None


def nuid_in(data: bytes) -> str | None:
    """Where any client's object, ours or not, has its chunks."""
    match _json(data):
        case {"nuid": str(nuid)}:
            return nuid
        case _:
            return None


def marked(marks: Marks, offset: int, sequence: int, size: int) -> Marks:
    """`marks` with one more, if it is far enough from the last: so that the largest blob has few."""
    if marks and offset - marks[-1][0] < size / _MARKS:
        return marks
    return (*marks, (offset, sequence))


def sequence_before(marks: Marks, offset: int) -> int:
    """A sequence at or before that of the chunk with `offset`, and not long before.

    No chunk has more than CHUNK bytes and each has a sequence of its own: so between a mark and `offset` there are at
    least as many sequences as full chunks.
    """
    begins, sequence = max((mark for mark in marks if mark[0] <= offset), default=(0, 1))
    return sequence + (offset - begins) // CHUNK


def chunks_of(batch: bytes, offset: int, subject: str, guard: str, expected: int) -> list[Write]:
    """The messages that bring `batch`, whose first byte has `offset`, all guarded through the first."""
    pieces = [Write(subject, batch[at : at + CHUNK], offset=offset + at) for at in range(0, len(batch), CHUNK)]
    return [Write(subject, pieces[0].data, expected, guard, offset=offset), *pieces[1:]]


async def batches(blocks: AsyncIterator[bytes], space: int) -> AsyncGenerator[bytes, None]:
    """`blocks` cut anew into batches. Raises TooLarge when there are more than `space` bytes."""
    left, gathered = space, bytearray()
    async for block in blocks:
        left -= len(block)
        if left < 0:
            raise TooLarge("the part goes beyond the upload's size")
        gathered += block
        while len(gathered) >= BATCH:
            yield bytes(gathered[:BATCH])
            del gathered[:BATCH]
    if gathered:
        yield bytes(gathered)


def offset_of(headers: Mapping[str, str]) -> int:
    """The offset that a chunk says it has. Raises StorageUnavailable for one that says none."""
    text = headers.get(OFFSET, "")
    if not text.isdecimal():
        raise _damaged()
    return int(text)


def _marks(found: object) -> Marks:
    match found:
        case list(pairs) if all(isinstance(pair, list) and list(map(type, pair)) == [int, int] for pair in pairs):
            return tuple((int(offset), int(sequence)) for offset, sequence in pairs)
        case _:
            raise _damaged()


def _json(data: bytes | str) -> object:
    try:
        return load_json(data)
    except InvalidInput:
        return None


def _damaged() -> StorageUnavailable:
    return StorageUnavailable("a blob's facts are damaged in the cluster: restore them from a backup")
