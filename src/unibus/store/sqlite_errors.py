"""What SQLite's errors mean to the person who runs the node.

A message here may travel to clients: it must never name a path, a statement or a value.
"""

import sqlite3

from unibus.errors import StorageUnavailable

CLOSED = "the store is closed: the daemon is stopping, try again when it is back"

# By primary result code (https://www.sqlite.org/rescode.html).
_CAUSES = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space and try again, no restart is needed",
    sqlite3.SQLITE_IOERR: "the disk refuses to read or write: see the system's log, then free space or replace it",
    sqlite3.SQLITE_READONLY: "the store's files are read-only: give the daemon's user write access to them",
    sqlite3.SQLITE_PERM: "the store's files are not accessible: give the daemon's user access to them",
    sqlite3.SQLITE_CANTOPEN: "the store's files cannot be opened: see that they are there and free to write",
    sqlite3.SQLITE_BUSY: "another program holds the store's file: end it and try again",
    sqlite3.SQLITE_CORRUPT: "the store's file is damaged: stop the daemon and restore a backup",
    sqlite3.SQLITE_NOTADB: "the store's file is damaged: stop the daemon and restore a backup",
    sqlite3.SQLITE_NOMEM: "the node is out of memory: free some and try again",
}


def primary_code(error: BaseException | None) -> int:
    """SQLite's primary result code, or 0 for an error that did not come from SQLite's library."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def unavailable(error: sqlite3.Error) -> StorageUnavailable:
    """The error to raise in place of SQLite's own."""
    number = getattr(error, "sqlite_errorcode", 0)
    unknown = f"the store failed with sqlite error {number}: report it with this number"
    return StorageUnavailable(_CAUSES.get(primary_code(error), unknown))


class Condition:
    """What is wrong with an engine now, as its reads and writes found it."""

    def __init__(self) -> None:
        self._writing: str | None = None
        self._damage: str | None = None

    def refused(self, error: sqlite3.Error, *, writing: bool) -> StorageUnavailable:
        """Take note of an error and return the one to raise in its place."""
        told = unavailable(error)
        told.__cause__ = error
        if primary_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            self._damage = told.message
        elif writing:
            self._writing = told.message
        return told

    def wrote(self) -> None:
        """Take note that a write is on disk. Damage stays: another page may well be sound."""
        self._writing = None

    @property
    def cannot_write(self) -> bool:
        """Whether the last write failed for a reason that may pass."""
        return self._writing is not None

    @property
    def reasons(self) -> list[str]:
        """Why the engine does not serve fully; empty when it does, as far as it knows."""
        return [reason for reason in (self._damage, self._writing) if reason]
