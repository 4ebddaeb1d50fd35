"""Schema versions of the SQLite file: upgrades that can be undone, and refusals that change nothing."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from unibus.errors import StartRefused, StorageUnavailable
from unibus.store.port import Append, Entry
from unibus.store.schema import APPLICATION_ID, STEPS, Found, Step, backup_path, first_step
from unibus.store.sqlite import SqliteStore

# Later versions as they may come: one adds a table, one rebuilds a table that others refer to.
SECOND: Step = ("CREATE TABLE notes (name BLOB PRIMARY KEY) STRICT", "INSERT INTO notes SELECT name FROM logs")
THIRD: Step = (
    "CREATE TABLE renewed (id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, kind INTEGER) STRICT",
    "INSERT INTO renewed (id, name) SELECT id, name FROM logs",
    "DROP TRIGGER logs_no_DELETE",
    "DROP TABLE logs",
    "ALTER TABLE renewed RENAME TO logs",
)
LATER = (*STEPS, SECOND, THIRD)


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


def names(directory: Path) -> list[str]:
    return [file.name for file in directory.iterdir()]


def content(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A file of the first version with a little of everything in it."""
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path, steps=STEPS[:1])
    await store.append(Append("log", 1, b"v", {"a": b"x"}, {"m": b"y"}))
    await store.claim("name", 100)
    await store.close()
    assert version(path) == 1
    return path


async def assert_as_before(store: SqliteStore) -> None:
    assert await store.entries("log", 0, 10) == [Entry(1, b"v")]
    assert await store.attachments("log", "a", 0, 10) == [Entry(1, b"x")]
    assert await store.marks("", "", 10) == [("m", b"y")]
    assert not await store.claim("name", 100)


async def test_an_upgrade_keeps_everything_and_a_copy_of_the_old_file(path: Path) -> None:
    store = await SqliteStore.open(path, steps=LATER)
    await assert_as_before(store)
    await store.append(Append("log", 2, b"after"))
    await store.close()
    assert version(path) == 3

    copy = backup_path(path, 3)
    assert copy.name == "store.db.before-v3"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert version(copy) == 1
    store = await SqliteStore.open(copy, steps=STEPS[:1])
    await assert_as_before(store)
    await store.append(Append("log", 2, b"another"))
    await store.close()


async def test_a_new_or_current_file_leaves_no_copy(tmp_path: Path) -> None:
    for _ in range(2):
        await (await SqliteStore.open(tmp_path / "store.db", steps=LATER)).close()
    assert names(tmp_path) == ["store.db"]


async def test_a_new_file_and_an_upgraded_one_are_alike(path: Path, tmp_path: Path) -> None:
    await (await SqliteStore.open(path, steps=LATER)).close()
    await (await SqliteStore.open(tmp_path / "new.db", steps=LATER)).close()
    schemas = []
    for file in (path, tmp_path / "new.db"):
        with closing(sqlite3.connect(file)) as db:
            schemas.append(db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name").fetchall())
    assert schemas[0] == schemas[1]


async def test_a_step_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    before = content(path)
    with pytest.raises(StorageUnavailable):
        await SqliteStore.open(path, steps=(*STEPS, SECOND, ("CREATE TABLE entries (twice INTEGER)",)))
    assert content(path) == before
    store = await SqliteStore.open(path)
    await assert_as_before(store)
    await store.close()


async def test_a_step_that_breaks_references_is_refused(path: Path) -> None:
    step: Step = ("DROP TRIGGER logs_no_DELETE", "DELETE FROM logs")
    with pytest.raises(StartRefused, match="do not hold together"):
        await SqliteStore.open(path, steps=(*STEPS, step))
    store = await SqliteStore.open(path)
    await assert_as_before(store)
    await store.close()


async def test_an_upgrade_that_was_interrupted_starts_over(path: Path) -> None:
    partial = path.with_name("store.db.before-v3.part")
    partial.write_bytes(b"half a copy")
    partial.chmod(0o644)
    store = await SqliteStore.open(path, steps=LATER)
    await assert_as_before(store)
    await store.close()
    assert version(backup_path(path, 3)) == 1
    assert stat.S_IMODE(backup_path(path, 3).stat().st_mode) == 0o600
    assert not partial.exists()


async def test_a_copy_that_cannot_be_made_stops_the_upgrade(path: Path) -> None:
    backup_path(path, 3).mkdir()
    with pytest.raises(StartRefused, match="cannot use"):
        await SqliteStore.open(path, steps=LATER)
    assert version(path) == 1


async def test_a_newer_file_is_refused_and_not_touched(path: Path) -> None:
    await (await SqliteStore.open(path, steps=LATER)).close()
    before = content(path)
    with pytest.raises(StartRefused, match=r"newer unibus \(schema 3, this one knows 1\)"):
        await SqliteStore.open(path, steps=STEPS[:1])
    assert content(path) == before


@pytest.mark.parametrize(
    ("found", "step"),
    [(Found(0, 0, 0), 0), (Found(APPLICATION_ID, 1, 9), 1), (Found(APPLICATION_ID, 2, 9), 2)],
)
def test_the_first_step_follows_the_version(found: Found, step: int) -> None:
    assert first_step(found, 2, Path("store.db")) == step


@pytest.mark.parametrize(
    "found",
    [
        Found(0, 0, 1),
        Found(0, 1, 9),
        Found(0x42D43379, 1, 9),
        Found(APPLICATION_ID, 0, 0),
        Found(APPLICATION_ID, -1, 9),
        Found(APPLICATION_ID, 3, 9),
    ],
)
def test_what_is_not_a_store_that_is_known_is_refused(found: Found) -> None:
    with pytest.raises(StartRefused):
        first_step(found, 2, Path("store.db"))


@pytest.mark.parametrize("table", ["logs", "entries", "attachments"])
async def test_the_file_itself_refuses_to_change_what_was_appended(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in (f"UPDATE {table} SET rowid = rowid + 1", f"DELETE FROM {table}"):  # noqa: S608 - fixed names
            with pytest.raises(sqlite3.IntegrityError, match="immutable"):
                db.execute(statement)
