"""What the KV engine keeps, as keys and bytes. Pure.

Keys, below the bucket's own prefix; each is written once, but for `node`:

    log.<log>.<position>   one entry, or a run of entries of which this is the first one's position
    part.<tag>.<number>    a piece of an entry too large for one message, written before it, the last one in one step
                           with it; empty where a sweep of unfinished ones stands in the way (`kv_parts`)
    claim.<hash>           a claim: base64url of the SHA-256 of its name; until when, in Unix seconds
    node.<node>            the last sign of life of a node: bytes that the node's daemon chose

An entry is a version (one byte, 1), the 16 random bytes of its writer's `tag`, the number of its parts (four bytes, big
endian) and then, without parts, its body, else the SHA-256 of each part; the parts together are the body. A body is
a list of fields, each after its length in four bytes, big endian: the value; the number of attachments, as four bytes;
name and value of each attachment; name and value of each mark. A mark's value begins with 1, or is 0 alone where the
mark goes.

A run is a version (one byte, 2), the tag, and then a list of such fields: the values of entries that have nothing else.
Only a log's next position is ever written, and a run is taken over whole: so two writers that overlap want one key.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from unibus.crypto.encoding import b64u
from unibus.errors import InvalidInput
from unibus.store.port import Append
from unibus.store.sqlite_plan import Add

PART_BYTES = 512 * 1024
"""The most of a body that one message carries: well below nats-server's limit of 1 MiB, headers included."""
TAG_BYTES = 16
LONGEST_NAME = 1024
"""Characters of an escaped name: a key travels in one line of NATS' protocol, which is 4 KiB."""
_ENTRY, _RUN = 1, 2  # versions
_DIGEST_BYTES = 32
_RUN_BYTES = 1 + TAG_BYTES
_HEAD_BYTES = _RUN_BYTES + 4
_UNSAFE = re.compile(rb"[^A-Za-z0-9_/-]")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")


class Unreadable(Exception):
    """A key or an entry that no writer of this version makes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as it is stored: `data` under its key, after each of `parts` was stored under its own."""

    data: bytes
    parts: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """An entry as read back: the body, or what it has to be put together from. `run`: it is a run's body."""

    tag: bytes
    body: bytes
    digests: tuple[bytes, ...]
    run: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """Entries of one log that one message carries, in order; `first` is the position of the first."""

    first: int
    adds: list[Add]

    @property
    def last(self) -> int:
        """The position of the last."""
        return self.first + len(self.adds) - 1


def escape(name: str) -> str:
    """`name` as one token of a key (NATS ADR-8): bytes outside A-Z a-z 0-9 _ / - are `=` and two digits.

    Raises InvalidInput for what is no text or too long.
    """
    try:
        text = _UNSAFE.sub(lambda found: b"=%02X" % found[0][0], name.encode()) or b"="
    except UnicodeEncodeError as error:
        raise InvalidInput("a name must be valid unicode text") from error
    if len(text) > LONGEST_NAME:
        raise InvalidInput(f"a name is too long to be kept in the cluster: {LONGEST_NAME} bytes are the most")
    return text.decode("ascii")


def unescape(text: str) -> str:
    """The name behind a token that `escape` made. Raises Unreadable for any other."""
    try:
        name = "" if text == "=" else _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode()).decode()
        if escape(name) == text:
            return name
    except (UnicodeError, InvalidInput):
        pass
    raise Unreadable(text)


def log_key(log: str, position: int) -> str:
    """The key of one entry. Raises InvalidInput as `escape` does."""
    return f"log.{escape(log)}.{position}"


def read_log_key(key: str) -> tuple[str, int]:
    """The log and the position behind a key that `log_key` made. Raises Unreadable."""
    match key.split("."):
        case ["log", token, number] if number.isascii() and number.isdigit() and number == str(int(number)):
            return unescape(token), int(number)
    raise Unreadable(key)


def claim_key(name: str) -> str:
    """The key of a claim. Raises InvalidInput for a name that is no text."""
    try:
        return "claim." + b64u(hashlib.sha256(name.encode()).digest())
    except UnicodeEncodeError as error:
        raise InvalidInput("a name must be valid unicode text") from error


def node_key(name: str) -> str:
    """The key under which a node says what it has to tell."""
    return f"node.{escape(name)}"


def part_key(tag: bytes, number: int | str) -> str:
    """The key of a part of the entry with this tag; `*` for all of them."""
    return f"part.{b64u(tag)}.{number}"


def gather(placed: Iterable[tuple[Add, int]]) -> list[Run]:
    """Which of these entries, each with its position, share a message: those of a log that asked for no place.

    They keep their order within each log.
    """
    runs: list[Run] = []
    growing: dict[bytes, tuple[Run, int]] = {}
    for add, position in placed:
        plain = add.position is None and not add.attachments and not add.marks
        run, size = growing.get(add.log, (None, 0))
        size += 4 + len(add.value)
        if plain and run is not None and run.last + 1 == position and size <= PART_BYTES:
            run.adds.append(add)
        else:
            run, size = Run(position, [add]), 4 + len(add.value)
            runs.append(run)
        if plain:
            growing[add.log] = run, size
    return runs


def pack(adds: Sequence[Add], tag: bytes) -> Stored:
    """What stands for the entries of a run, or for any single one, of the writer with this tag."""
    if len(adds) > 1:
        return Stored(bytes([_RUN]) + tag + _join(add.value for add in adds), ())
    (add,) = adds
    fields = [add.value, len(add.attachments).to_bytes(4, "big")]
    for name, value in add.attachments.items():
        fields += [name, value]
    for name, mark in add.marks.items():
        fields += [name, b"\0" if mark is None else b"\1" + mark]
    body = _join(fields)
    start = bytes([_ENTRY]) + tag
    if len(body) <= PART_BYTES:
        return Stored(start + bytes(4) + body, ())
    parts = tuple(body[first : first + PART_BYTES] for first in range(0, len(body), PART_BYTES))
    digests = b"".join(hashlib.sha256(part).digest() for part in parts)
    return Stored(start + len(parts).to_bytes(4, "big") + digests, parts)


def read_head(data: bytes) -> Head:
    """What `pack` made of an entry, parts apart. Raises Unreadable."""
    if len(data) > _RUN_BYTES and data[0] == _RUN:
        return Head(data[1:_RUN_BYTES], data[_RUN_BYTES:], (), run=True)
    if len(data) < _HEAD_BYTES or data[0] != _ENTRY:
        raise Unreadable("version")
    tag, rest = data[1:_RUN_BYTES], data[_HEAD_BYTES:]
    parts = int.from_bytes(data[_RUN_BYTES:_HEAD_BYTES], "big")
    if parts == 0:
        return Head(tag, rest, ())
    if len(rest) != parts * _DIGEST_BYTES:
        raise Unreadable("parts")
    return Head(tag, b"", tuple(rest[at : at + _DIGEST_BYTES] for at in range(0, len(rest), _DIGEST_BYTES)))


def unpack(log: str, position: int, body: bytes) -> Append:
    """The append behind a body that `pack` made. Raises Unreadable."""
    fields = _fields(body)
    try:
        value, count = next(fields), int.from_bytes(next(fields), "big")
        attachments = {next(fields).decode(): next(fields) for _ in range(count)}
        marks = {name.decode(): _mark(next(fields)) for name in fields}
    except (StopIteration, UnicodeDecodeError) as error:
        raise Unreadable("body") from error
    return Append(log, position, value, attachments, marks)


def unpack_run(log: str, first: int, body: bytes) -> list[Append]:
    """The appends behind a body that `pack` made of a run. Raises Unreadable."""
    appends = [Append(log, position, value) for position, value in enumerate(_fields(body), first)]
    if len(appends) == 1:
        raise Unreadable("run")  # there is one form for an entry alone
    return appends


def _join(fields: Iterable[bytes]) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def _fields(body: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        end = at + 4 + int.from_bytes(body[at : at + 4], "big")
        if at + 4 > len(body) or end > len(body):
            raise Unreadable("body")
        yield body[at + 4 : end]
        at = end


def _mark(field: bytes) -> bytes | None:
    if field[:1] not in (b"\0", b"\1"):
        raise Unreadable("mark")
    return field[1:] if field[0] else None
