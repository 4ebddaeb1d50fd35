"""Copies of the SQLite engine's store: written while it runs, and read again by somebody who does not trust them.

A copy has no claims: what was spent is not part of what is kept. Reading must never run anything that a file brings
along, so its schema has to be exactly the engine's before a row is looked at.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from unibus.errors import BackupInvalid
from unibus.store.files import make_private
from unibus.store.schema import APPLICATION_ID, STEPS, Step, prepare

KEPT = ("logs", "entries", "attachments", "marks")
_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name"
_CHECKS = {"PRAGMA integrity_check": [("ok",)], "PRAGMA foreign_key_check": [], "SELECT count(*) FROM claims": [(0,)]}


async def write_snapshot(source: Path, target: Path) -> None:
    """Copy the store at `source` as it is at one moment to the new file `target`; writers go on meanwhile.

    The copy is not synced to disk. Raises sqlite3.Error, OSError.
    """
    make_private(target)
    async with aiosqlite.connect(target, isolation_level=None) as copy:
        # Nobody else reads it before it is whole, and nobody needs it after a crash.
        await copy.execute_fetchall("PRAGMA journal_mode = OFF")
        await copy.execute_fetchall("PRAGMA synchronous = OFF")
        await prepare(copy, target)
        await copy.execute_fetchall("ATTACH ? AS source", (str(source),))
        await copy.execute_fetchall("BEGIN")
        for table in KEPT:
            await copy.execute_fetchall(f"INSERT INTO main.{table} SELECT * FROM source.{table}")  # noqa: S608 - names of this module
        await copy.execute_fetchall("COMMIT")


class Snapshot:
    """A copy, read. Methods raise BackupInvalid where the file is damaged. Blocks."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def heads(self) -> Iterator[tuple[str, int, bytes]]:
        """All logs by name, each with the position and the value of its last entry."""
        statement = """SELECT name, position, value FROM logs JOIN entries ON log = id
            WHERE position = (SELECT max(position) FROM entries WHERE log = id) ORDER BY name"""
        for name, position, value in self._rows(statement):
            yield _text(name), position, value

    def entries(self, log: str) -> Iterator[tuple[int, bytes, dict[str, bytes]]]:
        """The entries of one log in order: position, value, and attachments by name."""
        statement = """SELECT position, name, value FROM attachments
            WHERE log = (SELECT id FROM logs WHERE name = ?) ORDER BY position"""
        attachments = self._rows(statement, log.encode())
        following = next(attachments, None)
        statement = """SELECT position, value FROM entries
            WHERE log = (SELECT id FROM logs WHERE name = ?) ORDER BY position"""
        for position, value in self._rows(statement, log.encode()):
            attached: dict[str, bytes] = {}
            while following is not None and following[0] == position:
                attached[_text(following[1])] = following[2]
                following = next(attachments, None)
            yield position, value, attached

    def marks(self) -> Iterator[tuple[str, bytes]]:
        """All marks by name."""
        for name, value in self._rows("SELECT name, value FROM marks ORDER BY name"):
            yield _text(name), value

    def _rows(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise BackupInvalid("its store is damaged") from error


@contextmanager
def read_snapshot(path: Path, *, checked: bool = False) -> Iterator[Snapshot]:
    """The copy at `path`, once it is known to be sound and of this engine's form. Raises BackupInvalid.

    `checked` says that this was found before, and that nobody else can have written there since: it takes its time.
    """
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        if checked:
            yield Snapshot(db)
            return
        try:
            db.execute("PRAGMA trusted_schema = OFF")
            ((application,),) = db.execute("PRAGMA application_id")
            ((version,),) = db.execute("PRAGMA user_version")
            sound = application == APPLICATION_ID and 1 <= version <= len(STEPS)
            sound = sound and db.execute(_SCHEMA).fetchall() == _schema(STEPS[:version])
            sound = sound and all(db.execute(question).fetchall() == right for question, right in _CHECKS.items())
        except sqlite3.Error as error:
            raise BackupInvalid("its store is damaged") from error
        if not sound:
            raise BackupInvalid("its store is not of this version's form, or is damaged")
        yield Snapshot(db)


def _schema(steps: Sequence[Step]) -> list[tuple[str, str, str, str | None]]:
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in (statement for step in steps for statement in step):
            db.execute(statement)
        return db.execute(_SCHEMA).fetchall()


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise BackupInvalid("its store has a name that is no text") from error
