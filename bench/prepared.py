"""Data directories as years of use would leave them: many users, many rooms, many records, a very large room.

Every record is signed and every key sealed as by an honest client, so a daemon starts on it like on any other, and
clients verify it. Written without waiting for the disk: must never be used for a bus that somebody needs.
"""

import asyncio
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from unibus.client.changes import Change, Signer
from unibus.crypto.encoding import b64u
from unibus.crypto.heads import Head, digest
from unibus.crypto.identity import Identity
from unibus.crypto.roomkey import EpochRef, seal_to, sealed_digest
from unibus.daemon.data_dir import STORE
from unibus.model.bodies import RoomAdd, RoomRename
from unibus.model.directory import Directory
from unibus.model.records import DIRECTORY, read_record, room_log, write_record
from unibus.services.gate import member_mark
from unibus.store.port import Append
from unibus.store.sqlite import SqliteStore

AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Founded:
    """A bus: who signs for its admin, its directory, and the records that made it so."""

    signer: Signer
    directory: Directory
    changes: Sequence[Append]


def found(owner: Identity, users: Sequence[tuple[str, Identity]]) -> Founded:
    """A bus with `owner` as its admin "owner", and `users`."""
    signer, directory = Signer(owner, int(time.time()), os.urandom), Directory()
    changes = [_taken(signer.found("owner"), directory)]
    changes += [_taken(signer.admit(directory, handle, user.card(), "member"), directory) for handle, user in users]
    return Founded(signer, directory, changes)


def room_of(bus: Founded, signer: Signer, name: str, records: int = 1, members: Sequence[Identity] = ()) -> "Grown":
    """A room of `signer`'s with `members` besides, whose log has at least so many records: it is renamed until then."""
    room, change = signer.create_room(bus.directory, name, "shared")
    assert change.epoch is not None
    return Grown(bus, signer, room, change, change.epoch[1], members, records)


@dataclass(frozen=True, slots=True)
class Grown:
    """A room, and what made it so."""

    bus: Founded
    signer: Signer
    id: str
    created: Change
    key: bytes
    members: Sequence[Identity]
    records: int

    def changes(self) -> Iterator[Append]:
        """Its log from the first record on."""
        log = room_log(self.id)
        head = Head(1, digest(self.created.record))
        owned = {member_mark(self.signer.identity.user, self.id): b"owner"}
        yield Append(log, 1, self.created.record, self.created.sealed, owned)
        ref = EpochRef(self.bus.directory.bus or "", self.id, 1)
        for member in self.members:
            user = member.user
            sealed = {user: seal_to(self.key, ref, user, member.sealing.public)}
            raw = self._record(head, RoomAdd(user=user, role="member", sealed=b64u(sealed_digest(sealed))))
            head = Head(head.sequence + 1, digest(raw))
            yield Append(log, head.sequence, raw, sealed, {member_mark(user, self.id): b"member"})
        while head.sequence < self.records:
            raw = self._record(head, RoomRename(name=f"name {head.sequence}"))
            head = Head(head.sequence + 1, digest(raw))
            yield Append(log, head.sequence, raw)

    def _record(self, head: Head, body: RoomAdd | RoomRename) -> bytes:
        directory = self.bus.directory
        key = self.signer.identity.signing
        log, at = room_log(self.id), self.signer.at
        return write_record(key, directory.bus, log, head, body, at=at, directory=directory.head)


async def write(data: Path, changes: Iterable[Append]) -> None:
    """Write `changes` into the new data directory `data`. Raises StorageUnavailable."""
    store = await SqliteStore.open(data / STORE, synchronous="OFF")
    try:
        left = iter(changes)
        while batch := list(islice(left, AT_ONCE)):
            await asyncio.gather(*(store.append(change) for change in batch))
    finally:
        await store.close()


async def prepare(data: Path, owner: Identity, users: Sequence[tuple[str, Identity]], rooms: int) -> list[str]:
    """Make a bus in the new directory `data`: `owner` as its admin "owner", `users`, and `rooms` rooms of the owner's.

    Gives the rooms' ids. Raises StorageUnavailable.
    """
    bus = found(owner, users)
    made = [room_of(bus, bus.signer, f"room {number}") for number in range(rooms)]
    await write(data, chain(bus.changes, *(room.changes() for room in made)))
    return [room.id for room in made]


def _taken(change: Change, directory: Directory) -> Append:
    record = read_record(change.record)
    directory.check(record)
    directory.apply(record)
    return Append(DIRECTORY, record.sequence, record.raw)
