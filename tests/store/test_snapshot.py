"""A copy of the store that somebody else has had in their hands: sound and of this form, or refused."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from unibus.errors import BackupInvalid
from unibus.store.port import Append
from unibus.store.snapshot import read_snapshot
from unibus.store.sqlite import SqliteStore


@pytest.fixture
async def copy(tmp_path: Path) -> Path:
    """A copy of a store with something in it."""
    store = await SqliteStore.open(tmp_path / "store.db")
    for position in range(1, 100):
        await store.append(Append("log", position, bytes(1000), {"a": bytes(100)}, {"m": b"x"}))
    await store.snapshot(tmp_path / "copy")
    await store.close()
    return tmp_path / "copy"


@pytest.fixture
def mode(copy: Path) -> int:
    """The copy's permissions."""
    return copy.stat().st_mode & 0o777


async def test_a_copy_is_private_and_a_store_that_goes_on(copy: Path, mode: int) -> None:
    assert mode == 0o600
    store = await SqliteStore.open(copy)
    await store.append(Append("log", 100, b"next"))
    await store.close()


def test_reading_leaves_a_copy_as_it_is(copy: Path) -> None:
    before = copy.read_bytes()
    with read_snapshot(copy) as snapshot:
        assert len(list(snapshot.entries("log"))) == 99
    assert copy.read_bytes() == before
    assert sorted(path.name for path in copy.parent.iterdir()) == ["copy", "store.db"]


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE more (x)",
        "CREATE VIEW more AS SELECT load_extension('/tmp/x')",
        "CREATE TRIGGER more AFTER INSERT ON claims BEGIN SELECT 1; END",
        "CREATE INDEX more ON marks (value)",
        "DROP TRIGGER entries_no_DELETE",
        "ALTER TABLE marks ADD COLUMN more TEXT",
        "INSERT INTO claims VALUES (CAST('nonce' AS BLOB), 1)",
        "INSERT INTO attachments VALUES (7, CAST('a' AS BLOB), 7, CAST('b' AS BLOB))",
        "PRAGMA user_version = 99",
        "PRAGMA user_version = 0",
        "PRAGMA application_id = 1",
    ],
)
def test_another_form_is_refused(copy: Path, statement: str) -> None:
    with closing(sqlite3.connect(copy)) as db:
        db.execute(statement)
        db.commit()
    with pytest.raises(BackupInvalid), read_snapshot(copy):
        pytest.fail("it was read")


def test_damage_is_refused(copy: Path) -> None:
    whole = copy.read_bytes()
    for place in range(4096, len(whole), 16_384):
        copy.write_bytes(whole[:place] + bytes(4096) + whole[place + 4096 :])
        with pytest.raises(BackupInvalid), read_snapshot(copy):
            pytest.fail(f"the page at {place} was not missed")
    for half in (b"", whole[: len(whole) // 2], b"no database " * 1000):
        copy.write_bytes(half)
        with pytest.raises(BackupInvalid), read_snapshot(copy):
            pytest.fail("it was read")
