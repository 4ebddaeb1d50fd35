"""A data directory as years of use would leave it: many users, and many rooms of one of them, written straight down.

Every record is signed and every key sealed as by an honest client, so a daemon starts on it like on any other.
"""

import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path

from unibus.client.changes import Change, Signer
from unibus.crypto.identity import Identity
from unibus.daemon.data_dir import STORE
from unibus.model.directory import Directory
from unibus.model.records import DIRECTORY, read_record
from unibus.model.room import Room
from unibus.services.membership import marks_of
from unibus.store.port import Append
from unibus.store.sqlite import SqliteStore

AT_ONCE = 500


async def prepare(data: Path, owner: Identity, users: Sequence[tuple[str, Identity]], rooms: int) -> list[str]:
    """Make a bus in the new directory `data`: `owner` as its admin "owner", `users`, and `rooms` rooms of the owner's.

    Gives the rooms' ids. Raises StorageUnavailable.
    """
    signer = Signer(owner, int(time.time()), os.urandom)
    directory = Directory()
    store = await SqliteStore.open(data / STORE)
    try:
        changes = [_taken(signer.found("owner"), directory)]
        for handle, identity in users:
            changes.append(_taken(signer.admit(directory, handle, identity.card(), "member"), directory))
        made = [_room(signer, directory, number) for number in range(rooms)]
        changes += [change for _, change in made]
        for first in range(0, len(changes), AT_ONCE):
            await asyncio.gather(*(store.append(change) for change in changes[first : first + AT_ONCE]))
        return [room for room, _ in made]
    finally:
        await store.close()


def _taken(change: Change, directory: Directory) -> Append:
    record = read_record(change.record)
    directory.check(record)
    directory.apply(record)
    return Append(DIRECTORY, record.sequence, record.raw)


def _room(signer: Signer, directory: Directory, number: int) -> tuple[str, Append]:
    room, change = signer.create_room(directory, f"room {number}", "shared")
    record = read_record(change.record)
    assert directory.bus is not None
    state = Room(directory.bus, room)
    state.check(record, directory)
    return room, Append(record.log, 1, record.raw, change.sealed, marks_of(record, state))
