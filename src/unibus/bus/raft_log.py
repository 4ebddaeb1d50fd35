"""One file of the log that the replicas of a stream agree on (a block of nats-server's `_js_/…/msgs`), read and healed.
Pure: bytes in, bytes out.

A member's header can make an entry that no replica gets past (docs/decisions/0019). Here that header's name is made one
that means nothing. All replicas do the same to the same entry, so what they agree on stays one history. Must never
change or leave out anything else. What is damaged stays as it is: nats-server cuts its log off there itself.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from unibus.bus import s2
from unibus.bus.highway import digest64

_STOPS, _VOID = b"Nats-Expected-Last-Msg-Id", b"Void-Expected-Last-Msg-Id"
_RECORD = struct.Struct("<IQqH")  # length, sequence, time, length of the subject
_APPEND = struct.Struct("<8sQQQQH")  # leader, term, commit, term and index before, number of entries
_MESSAGE = struct.Struct("<QqH")  # sequence, time, length of the subject
_DIGEST = 8
_NORMAL = 0
_STORE, _STORE_COMPRESSED = 4, 14
_NO_MESSAGE = 0xC000_0000_0000_0000
"""Bits of a sequence that say that the record removes one."""


@dataclass(frozen=True, slots=True)
class Healed:
    """The block as it should be, and the subjects on which what was wrong in it was published."""

    block: bytes
    subjects: frozenset[str]


def block_key(group: str, number: int) -> bytes:
    """What the digests of block `number` of the replica group `group` are made with."""
    return hashlib.sha256(f"{group}-{number}".encode()).digest()


def heal(block: bytes, key: bytes) -> Healed:
    """Take out of `block` what stops a replica. Raises ValueError for a whole record that is not understood."""
    records: list[bytes] = []
    subjects: set[str] = set()
    for record in _records(block):
        healed, stopped_by = _heal_record(record, key)
        records.append(healed)
        subjects |= stopped_by
    return Healed(b"".join(records), frozenset(subjects))


def _records(block: bytes) -> Iterator[bytes]:
    """One after the other, in the end what is no record."""
    at = 0
    while at < len(block):
        length = int.from_bytes(block[at : at + 4], "little") & 0x7FFFFFFF
        if length < _RECORD.size + _DIGEST or at + length > len(block):
            length = len(block) - at
        yield block[at : at + length]
        at += length


def _heal_record(record: bytes, key: bytes) -> tuple[bytes, set[str]]:
    subjects: set[str] = set()
    if len(record) < _RECORD.size + _DIGEST:
        return record, subjects
    length, sequence, _, subject = _RECORD.unpack_from(record)
    if length != len(record) or subject or sequence & _NO_MESSAGE:
        return record, subjects
    entries = record[_RECORD.size : -_DIGEST]
    try:
        healed = _heal_entries(entries, subjects)
    except ValueError:
        if digest64(key, record[4:20] + entries) == record[-_DIGEST:]:
            raise
        return record, set()
    if healed == entries or digest64(key, record[4:20] + entries) != record[-_DIGEST:]:
        return record, set()
    head = struct.pack("<I", _RECORD.size + len(healed) + _DIGEST) + record[4 : _RECORD.size]
    return head + healed + digest64(key, head[4:20] + healed), subjects


def _heal_entries(data: bytes, subjects: set[str]) -> bytes:
    """What one record appends; `subjects` is added to."""
    if len(data) < _APPEND.size:
        raise ValueError("a record is too short")
    *_, count = _APPEND.unpack_from(data)
    at, parts = _APPEND.size, [data[: _APPEND.size]]
    for _ in range(count):
        size = int.from_bytes(data[at : at + 4], "little")
        entry = data[at + 4 : at + 4 + size]
        if not entry or len(entry) != size:
            raise ValueError("an entry does not end where it says")
        healed = _heal_entry(entry, subjects)
        parts += [len(healed).to_bytes(4, "little"), healed]
        at += 4 + size
    return b"".join((*parts, data[at:]))


def _heal_entry(entry: bytes, subjects: set[str]) -> bytes:
    if len(entry) < 2 or entry[0] != _NORMAL or entry[1] not in {_STORE, _STORE_COMPRESSED}:
        return entry
    message = entry[2:] if entry[1] == _STORE else s2.decode(entry[2:])
    if _STOPS not in message:
        return entry
    try:
        *_, length = _MESSAGE.unpack_from(message)
        at = _MESSAGE.size + length
        subject = message[_MESSAGE.size : at].decode()
        at += 2 + int.from_bytes(message[at : at + 2], "little")  # the subject to answer on
        start, end = at + 2, at + 2 + int.from_bytes(message[at : at + 2], "little")
    except struct.error as error:
        raise ValueError("a message is too short") from error
    headers = message[start:end]
    if end > len(message):
        raise ValueError("a message does not end where it says")
    if _STOPS not in headers:
        return entry  # in its body it means nothing
    subjects.add(subject)
    return bytes((_NORMAL, _STORE)) + message[:start] + headers.replace(_STOPS, _VOID) + message[end:]
