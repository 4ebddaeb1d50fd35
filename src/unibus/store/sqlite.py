"""The store's engine for one node: SQLite in WAL mode, every commit synced. Implements `unibus.store.port.Store`.

Writes go through one writer that commits in groups; reads have a connection of their own and never wait for
them. Must never answer for anything that is not on disk.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, Self

import aiosqlite

from unibus.errors import InvalidInput, StartRefused, StorageUnavailable, reason_of
from unibus.store.files import make_private, tighten
from unibus.store.port import Append, Counts, Entry
from unibus.store.schema import STEPS, Step, prepare
from unibus.store.snapshot import write_snapshot
from unibus.store.sqlite_commit import STATEMENTS
from unibus.store.sqlite_errors import CLOSED, Condition, primary_code, unavailable
from unibus.store.sqlite_plan import Add, Adds, Claim, Forget, Probe
from unibus.store.sqlite_writer import Writer

BUSY_TIMEOUT = 5.0  # seconds
WAL_KEPT = 64 * 1024 * 1024  # bytes of the write-ahead log that stay allocated after a burst
_AGAIN = 0.01  # seconds
LARGEST = 2**63 - 1  # SQLite's largest integer
SYNCHRONOUS = ("off", "normal", "full", "extra")

_ENTRIES = """SELECT position, value FROM entries WHERE log = (SELECT id FROM logs WHERE name = ?)
    AND position > ? ORDER BY position LIMIT ?"""
_LAST = """SELECT position, value FROM entries WHERE log = (SELECT id FROM logs WHERE name = ?)
    ORDER BY position DESC LIMIT 1"""
_ATTACHMENTS = """SELECT position, value FROM attachments WHERE log = (SELECT id FROM logs WHERE name = ?)
    AND name = ? AND position > ? ORDER BY position LIMIT ?"""
_COUNTS = """SELECT count(*), coalesce(sum((SELECT max(position) FROM entries WHERE log = logs.id)), 0) FROM logs
    WHERE name >= ? AND name < ?"""
_FEW = "SELECT count(*) <= 100 FROM (SELECT 1 FROM logs WHERE name >= ? AND name < ? LIMIT 101)"
# Nothing is ever taken out of either table, so the largest number that SQLite has given a row is how many there are.
# Taken off is what has other names: to go through a hundred thousand rooms instead takes a core a third of a second.
_COUNTS_BESIDE = """SELECT (SELECT coalesce(max(id), 0) FROM logs) - count(*),
    (SELECT coalesce(max(rowid), 0) FROM entries)
    - coalesce(sum((SELECT max(position) FROM entries WHERE log = logs.id)), 0) FROM logs WHERE name < ? OR name >= ?"""
_LOGS = "SELECT name FROM logs WHERE name >= ? AND name < ? ORDER BY name LIMIT ?"
_MARKS = "SELECT name, value FROM marks WHERE name >= ? AND name < ? ORDER BY name LIMIT ?"


class SqliteStore:
    """Implements `unibus.store.port.Store` on one file. Made by `open`; `close` it."""

    def __init__(
        self,
        path: Path,
        writing: sqlite3.Connection,
        reading: aiosqlite.Connection,
        counting: aiosqlite.Connection,
        owned: AsyncExitStack,
    ) -> None:
        self._path = path
        self._reading = reading
        self._counting = counting  # goes through all logs: nobody who reads should wait for that
        self._owned = owned
        self._condition = Condition()
        self._writer = Writer(writing, self._condition)
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        steps: Sequence[Step] = STEPS,
        busy_timeout: float = BUSY_TIMEOUT,
        synchronous: str = "FULL",
    ) -> Self:
        """The store in the file at `path`, made or upgraded to the schema after all `steps` if need be.

        `busy_timeout` is how many seconds a write waits while another process holds the file; `synchronous` is SQLite's
        setting, and only FULL and EXTRA keep what the class promises.
        Raises StartRefused when the file is not to be used like this, StorageUnavailable when the disk does not serve.
        """
        try:
            make_private(path)
            async with AsyncExitStack() as owned:
                reading, counting = [
                    await owned.enter_async_context(aiosqlite.connect(path, timeout=busy_timeout, isolation_level=None))
                    for _ in range(2)
                ]
                await prepare(reading, path, steps)
                tighten(path)
                settings = (
                    "journal_mode = WAL",
                    f"synchronous = {synchronous}",
                    "foreign_keys = ON",
                    f"journal_size_limit = {WAL_KEPT}",
                    "temp_store = MEMORY",  # what undoes one statement of many rows would else be a file at each commit
                )
                writing = await asyncio.to_thread(_for_writing, path, busy_timeout, settings)
                for other in (reading, counting):
                    await other.execute_fetchall("PRAGMA query_only = ON")
                return cls(path, writing, reading, counting, owned.pop_all())
        except OSError as error:
            reason = reason_of(error)
            raise StartRefused(f"cannot use {path} as the store: {reason}; mend it or name another") from error
        except sqlite3.Error as error:
            raise unavailable(error) from error

    async def append(self, *changes: Append) -> None:
        """See `Store.append`."""
        await self._writer.write(Adds(tuple(map(to_add, changes))))

    async def last(self, log: str) -> Entry | None:
        """See `Store.last`."""
        return next((Entry(*row) for row in await self._read(_LAST, _name(log))), None)

    async def entries(self, log: str, after: int, limit: int) -> list[Entry]:
        """See `Store.entries`."""
        return [Entry(*row) for row in await self._read(_ENTRIES, _name(log), _whole(after), _count(limit))]

    async def logs(self, prefix: str, after: str, limit: int) -> list[str]:
        """See `Store.logs`."""
        return [str(name, "utf-8") for (name,) in await self._read(_LOGS, *_range(prefix, after), _count(limit))]

    async def attachments(self, log: str, name: str, after: int, limit: int) -> list[Entry]:
        """See `Store.attachments`."""
        rows = await self._read(_ATTACHMENTS, _name(log), _name(name), _whole(after), _count(limit))
        return [Entry(*row) for row in rows]

    async def marks(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """See `Store.marks`."""
        rows = await self._read(_MARKS, *_range(prefix, after), _count(limit))
        return [(str(name, "utf-8"), value) for name, value in rows]

    async def claim(self, name: str, expires_at: int) -> bool:
        """See `Store.claim`."""
        return await self._writer.write(Claim(_name(name), _whole(expires_at))) == 1

    async def forget_claims(self, now: int) -> int:
        """See `Store.forget_claims`."""
        return await self._writer.write(Forget(_whole(now)))

    async def sync(self) -> None:
        """See `Store.sync`: there is no other node."""
        self._require_open()

    def current(self) -> None:
        """See `Store.current`: nobody else writes to this file."""

    async def snapshot(self, path: Path) -> None:
        """See `Store.snapshot`."""
        self._require_open()
        try:
            await write_snapshot(self._path, path)
        except OSError as error:
            raise StorageUnavailable(f"a copy of the store cannot be written: {reason_of(error)}") from error
        except sqlite3.Error as error:
            raise unavailable(error) from error

    async def counts(self, prefix: str) -> Counts:
        """See `Store.counts`."""
        found = _range(prefix, "")
        ((few,),) = await self._ask(self._counting, _FEW, *found)
        ((logs, entries),) = await self._ask(self._counting, _COUNTS if few else _COUNTS_BESIDE, *found)
        return Counts(logs, entries)

    async def posture(self) -> Mapping[str, object]:
        """See `Store.posture`. `reasons` says what is wrong with the engine; it is empty when nothing is known to be.

        After a failed write, one that means nothing is tried here, to see whether the reason still stands.
        """
        if self._condition.cannot_write:
            with suppress(StorageUnavailable):
                await self._writer.write(Probe())
        self._require_open()
        try:
            journal_mode, synchronous = await self._writer.ask(_settings)
        except sqlite3.Error as error:
            raise self._condition.refused(error, writing=False) from error
        return describe(journal_mode, synchronous, self._condition.reasons)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        await self._writer.close()
        await self._owned.aclose()

    async def _read(self, statement: str, *values: object) -> Iterable[Any]:
        return await self._ask(self._reading, statement, *values)

    def _require_open(self) -> None:
        if self._closing is not None:
            raise StorageUnavailable(CLOSED)

    async def _ask(self, db: aiosqlite.Connection, statement: str, *values: object) -> Iterable[Any]:
        self._require_open()
        try:
            return await db.execute_fetchall(statement, values)
        except sqlite3.Error as error:
            raise self._condition.refused(error, writing=False) from error


def _for_writing(path: Path, busy_timeout: float, settings: Iterable[str]) -> sqlite3.Connection:
    db = sqlite3.connect(
        path,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=STATEMENTS,
    )
    try:
        for setting in settings:
            _set(db, setting, busy_timeout)
    except BaseException:
        db.close()
        raise
    return db


def _set(db: sqlite3.Connection, setting: str, busy_timeout: float) -> None:
    # For the change to another journal SQLite itself does not wait: two that make it would wait for each other.
    until = time.monotonic() + busy_timeout
    while True:
        try:
            db.execute(f"PRAGMA {setting}")
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(_AGAIN)
        else:
            return


def _settings(db: sqlite3.Connection) -> tuple[str, int]:
    ((journal_mode,),) = db.execute("PRAGMA journal_mode")
    ((synchronous,),) = db.execute("PRAGMA synchronous")
    return journal_mode, synchronous


def describe(journal_mode: str, synchronous: int, reasons: Sequence[str]) -> Mapping[str, object]:
    """The posture of an engine that runs with these settings (SQLite's `PRAGMA journal_mode` and `synchronous`).

    Durable means that a commit is synced before it is answered: https://www.sqlite.org/pragma.html#pragma_synchronous.
    """
    return {
        "engine": "sqlite",
        "durable": journal_mode not in ("memory", "off") and SYNCHRONOUS[synchronous] in ("full", "extra"),
        "journal_mode": journal_mode,
        "synchronous": SYNCHRONOUS[synchronous],
        "reasons": list(reasons),
    }


def to_add(change: Append) -> Add:
    """The append with its names encoded. Raises InvalidInput for one that is no text."""
    return Add(
        change.log,
        _name(change.log),
        change.position,
        change.value,
        {_name(name): value for name, value in change.attachments.items()},
        {_name(name): value for name, value in change.marks.items()},
    )


def _name(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("a name must be valid unicode text") from error


def _range(prefix: str, after: str) -> tuple[bytes, bytes]:
    # From the first name that may be in the answer up to, and without, the first that no longer starts with the
    # prefix: UTF-8 never holds the byte 0xff, and nothing sorts between a name and that name with a zero byte.
    start = _name(prefix)
    return max(start, _name(after) + b"\0"), start + b"\xff"


def _whole(number: int) -> int:
    return max(-LARGEST, min(number, LARGEST))


def _count(limit: int) -> int:
    # To SQLite a negative limit is none at all.
    return max(0, _whole(limit))
