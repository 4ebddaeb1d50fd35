"""The SQLite file's schema: the steps that make each version from the one before, and the safe way to run them.

A step that was released must never be edited: add the next one. A file of another program, or of a newer unibus,
must never be written to, not even a bit.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiosqlite

from unibus.errors import StartRefused
from unibus.store.files import keep, make_private
from unibus.store.sqlite_errors import primary_code

# "unib" in the header's application id, so that no other program's file is taken for a store.
APPLICATION_ID = int.from_bytes(b"unib", "big")
OLDEST_SQLITE = (3, 37, 0)  # STRICT tables

Step = tuple[str, ...]

# Names are UTF-8 in BLOBs: they compare byte by byte, whatever they hold, and no pattern or collation touches them.
# The triggers keep what is appended out of reach of a mistake in the statements of this program.
STEPS: Sequence[Step] = (
    (
        "CREATE TABLE logs (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE) STRICT",
        """CREATE TABLE entries (
            log INTEGER NOT NULL REFERENCES logs (id),
            position INTEGER NOT NULL CHECK (position >= 1),
            value BLOB NOT NULL,
            PRIMARY KEY (log, position)
        ) STRICT""",
        """CREATE TABLE attachments (
            log INTEGER NOT NULL,
            name BLOB NOT NULL,
            position INTEGER NOT NULL,
            value BLOB NOT NULL,
            PRIMARY KEY (log, name, position),
            FOREIGN KEY (log, position) REFERENCES entries (log, position)
        ) STRICT""",
        "CREATE TABLE marks (name BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE TABLE claims (name BLOB PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
        "CREATE INDEX claims_by_expiry ON claims (expires_at)",
        "CREATE TABLE probe (id INTEGER PRIMARY KEY CHECK (id = 1), value BLOB NOT NULL) STRICT",
        *(
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} are immutable'); END"
            for table in ("logs", "entries", "attachments")
            for verb in ("UPDATE", "DELETE")
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """What a file says of itself: its header's application id and version, and how many tables and such it has."""

    application: int
    version: int
    objects: int


def first_step(found: Found, known: int, path: Path) -> int:
    """The index of the first of `known` steps to run on the file: 0 for an empty one, `known` for a current one.

    Raises StartRefused for a file that is not a store, or that a newer unibus wrote.
    """
    if found == Found(0, 0, 0):
        return 0
    if found.application != APPLICATION_ID or found.version < 1:
        raise StartRefused(f"{path} is not a store of unibus: move it away or name another data directory")
    if found.version > known:
        raise StartRefused(
            f"{path} was written by a newer unibus (schema {found.version}, this one knows {known}): "
            f"install the newer one, or put back a copy kept beside it as {path.name}.before-v…"
        )
    return found.version


def backup_path(path: Path, version: int) -> Path:
    """Where the file is kept as it was before schema `version`."""
    return path.with_name(f"{path.name}.before-v{version}")


async def prepare(db: aiosqlite.Connection, path: Path, steps: Sequence[Step] = STEPS) -> None:
    """Bring the file at `path`, open as `db` in autocommit mode, to the schema after all `steps`.

    An older file is copied to `backup_path` first; all steps are one transaction. Raises StartRefused as
    `first_step` does and when the upgraded data do not hold together, OSError when the copy cannot be made and
    sqlite3.Error when a step fails. The file is then as it was.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StartRefused(f"python's sqlite is {sqlite3.sqlite_version}: use a python with sqlite 3.37 or newer")
    # A step may rebuild a table that others refer to; all references are checked together before the commit.
    await db.execute_fetchall("PRAGMA foreign_keys = OFF")
    try:
        await db.execute_fetchall("BEGIN IMMEDIATE")
        # Asked under the lock: no other process upgrades between the question and the steps.
        first = first_step(await _look(db), len(steps), path)
        if first < len(steps):
            if first > 0:
                await _back_up(path, backup_path(path, len(steps)))
            await _run(db, steps[first:], len(steps), path)
        await db.execute_fetchall("COMMIT")
    except sqlite3.DatabaseError as error:
        if primary_code(error) == sqlite3.SQLITE_NOTADB:
            raise StartRefused(f"{path} is not a store of unibus, or is damaged: move it away or restore it") from error
        raise
    finally:
        await db.rollback()


async def _look(db: aiosqlite.Connection) -> Found:
    ((application,),) = await db.execute_fetchall("PRAGMA application_id")
    ((version,),) = await db.execute_fetchall("PRAGMA user_version")
    ((objects,),) = await db.execute_fetchall("SELECT count(*) FROM sqlite_schema")
    return Found(application, version, objects)


async def _run(db: aiosqlite.Connection, steps: Sequence[Step], version: int, path: Path) -> None:
    for statement in (statement for step in steps for statement in step):
        await db.execute_fetchall(statement)
    if list(await db.execute_fetchall("PRAGMA foreign_key_check")):
        raise StartRefused(f"{path} cannot be upgraded, its data do not hold together: restore a backup")
    await db.execute_fetchall(f"PRAGMA application_id = {APPLICATION_ID}")
    await db.execute_fetchall(f"PRAGMA user_version = {version}")


async def _back_up(path: Path, final: Path) -> None:
    # A name of its own until it is whole: a half copy must never look like a backup. Read by a connection of its
    # own, too: SQLite does not copy from one that has begun to write.
    partial = final.with_name(final.name + ".part")
    partial.unlink(missing_ok=True)
    make_private(partial)
    async with aiosqlite.connect(path) as source, aiosqlite.connect(partial) as copy:
        await source.backup(copy)
    keep(partial, final)
