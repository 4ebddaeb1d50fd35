"""A node's own copy of the logs that the cluster keeps, in a SQLite file: what the KV engine reads from.

It can be built again, so it is not synced at each commit. Must never be written to but in the order of the stream, and
what the cluster has lost must never be deleted here as well.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Self

from structlog.typing import FilteringBoundLogger

from unibus.errors import StartRefused, StorageUnavailable
from unibus.store.files import COMPANIONS, sync_directory
from unibus.store.port import Append
from unibus.store.schema import STEPS
from unibus.store.sqlite import SqliteStore, to_add
from unibus.store.sqlite_commit import LENGTHS
from unibus.store.sqlite_errors import primary_code
from unibus.store.sqlite_plan import Follow, Place

_FOLLOWING = """CREATE TABLE following (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    stream TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    digest BLOB NOT NULL
) STRICT"""
# One step, because there is nothing to upgrade: a replica of another form is built anew.
_STEPS = ((*(statement for step in STEPS for statement in step), _FOLLOWING),)
_FORM = hashlib.sha256("\0".join(_STEPS[0]).encode()).hexdigest()[:16]


class _OtherForm(StorageUnavailable):
    """The file was made by another version of this program."""


class Replica(SqliteStore):
    """A store that follows a stream. Made by `open_replica`."""

    async def take(self, appends: Iterable[Append], place: Place) -> None:
        """Add entries and note the place, all in one. Raises PositionTaken if one does not fit, StorageUnavailable."""
        await self._writer.write(Follow(tuple(map(to_add, appends)), place._replace(stream=_FORM + place.stream)))

    async def place(self) -> Place:
        """Where the replica is; of stream "" when it is new. Raises StorageUnavailable."""
        for stream, sequence, digest in await self._read("SELECT stream, sequence, digest FROM following"):
            if stream.startswith(_FORM):
                return Place(stream.removeprefix(_FORM), sequence, digest)
            raise _OtherForm("it is of another version's form")
        return Place("", 0, b"")

    async def lengths(self, logs: Collection[bytes]) -> dict[bytes, int]:
        """How many entries these logs have, for each that has any."""
        wanted = ", ".join("?" * len(logs))
        return dict(await self._read(f"{LENGTHS} ({wanted})", *logs))

    async def length(self, log: str) -> int:
        """How many entries a log has."""
        statement = "SELECT coalesce(max(position), 0) FROM entries WHERE log = (SELECT id FROM logs WHERE name = ?)"
        ((length,),) = await self._read(statement, log.encode())
        return int(length)

    @classmethod
    async def made(cls, path: Path) -> Self:
        """The replica at `path`, or a new one there. Raises StartRefused, StorageUnavailable as `SqliteStore.open`."""
        replica = await cls.open(path, steps=_STEPS, synchronous="NORMAL")
        try:
            await replica.place()
        except BaseException:
            await replica.close()
            raise
        return replica


async def open_replica(path: Path, log: FilteringBoundLogger) -> Replica:
    """The replica at `path`; one that is damaged or of another version is built anew. Raises as `Replica.made`."""
    try:
        return await Replica.made(path)
    except (StartRefused, StorageUnavailable) as error:
        damage = primary_code(error.__cause__) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if not damage and not isinstance(error, _OtherForm):
            raise  # somebody else's file, or one that is only out of reach now
        log.warning("this node's copy of the records is built anew", reason=error.message, path=str(path))
        _remove(path)
        return await Replica.made(path)


async def replace_replica(replica: Replica, path: Path) -> tuple[Replica, Path]:
    """A new replica in the place of one that does not fit the cluster, and where the old one is kept.

    An older one that is kept already stays: it may hold more. Raises as `Replica.made`, OSError.
    """
    await replica.close()
    kept = path.with_name(path.name + ".lost")
    _set_aside(path, kept)
    return await Replica.made(path), kept


def _set_aside(path: Path, kept: Path) -> None:
    if not kept.exists():
        # The last connection that closed has written the log ahead into the file.
        path.rename(kept)
        sync_directory(kept.parent)
    _remove(path)


def _remove(path: Path) -> None:
    for file in (path, *(path.with_name(path.name + companion) for companion in COMPANIONS)):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
