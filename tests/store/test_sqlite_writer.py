"""The SQLite engine's group commit, watched from outside: in the write-ahead log, and behind another program's lock."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from unibus.errors import StorageUnavailable
from unibus.store.port import Append, PositionTaken
from unibus.store.sqlite import SqliteStore, describe
from unibus.store.sqlite_errors import unavailable
from unibus.store.sqlite_plan import Add, Claim, plan, share_out


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "store.db", busy_timeout=10)
    yield store
    await store.close()


@pytest.fixture
def other(tmp_path: Path, store: SqliteStore) -> Iterator[sqlite3.Connection]:  # noqa: ARG001 - the file must be there
    """Another program's connection to the file."""
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        yield other


def commits(wal: bytes) -> int:
    """How many commits a write-ahead log holds: frames whose second word is not zero (sqlite.org/walformat.html)."""
    frame = 24 + int.from_bytes(wal[8:12], "big")
    return sum(wal[start + 4 : start + 8] != bytes(4) for start in range(32, len(wal), frame))


async def test_writes_that_wait_share_a_commit(store: SqliteStore, tmp_path: Path) -> None:
    wal = tmp_path / "store.db-wal"
    before = commits(wal.read_bytes()) if wal.exists() else 0
    won = await asyncio.gather(*(store.claim(f"{n}", 100) for n in range(100)))
    await asyncio.gather(*(store.append(Append(f"{n}", 1, b"v")) for n in range(100)))
    assert all(won)
    assert 2 <= commits(wal.read_bytes()) - before <= 6


async def test_reads_do_not_wait_for_writes(store: SqliteStore, other: sqlite3.Connection) -> None:
    await store.append(Append("log", 1, b"v"))
    other.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(store.append(Append("log", 2, b"v")))
    assert len(await asyncio.wait_for(store.entries("log", 0, 10), 5)) == 1
    assert not waiting.done()
    other.execute("COMMIT")
    await waiting
    assert len(await store.entries("log", 0, 10)) == 2


async def test_a_write_whose_caller_left_before_its_turn_is_not_made(
    store: SqliteStore, other: sqlite3.Connection
) -> None:
    other.execute("BEGIN IMMEDIATE")
    first = asyncio.create_task(store.append(Append("first", 1, b"v")))
    # A turn for the caller and one for the writer, which is then held up by the lock with this one append.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    left = asyncio.create_task(store.append(Append("left", 1, b"v")))
    stays = asyncio.create_task(store.append(Append("stays", 1, b"v")))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    other.execute("COMMIT")
    await asyncio.gather(first, stays)
    assert await store.logs("", "", 10) == ["first", "stays"]


async def test_another_programs_lock_is_named_and_passes(tmp_path: Path, other: sqlite3.Connection) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", busy_timeout=0.05)
    other.execute("BEGIN IMMEDIATE")
    results = await asyncio.gather(*(store.append(Append(f"{n}", 1, b"v")) for n in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {StorageUnavailable}
    assert "another program holds" in str(results[0])
    assert "another program holds" in str((await store.posture())["reasons"])
    other.execute("COMMIT")
    assert (await store.posture())["reasons"] == []
    await store.append(Append("0", 1, b"v"))
    assert await store.logs("", "", 30) == ["0"]
    await store.close()


async def test_a_write_that_the_file_refuses_leaves_nothing_and_stops_nobody(store: SqliteStore) -> None:
    wrong = Append("wrong", 1, "text", {}, {"m": b"x"})  # type: ignore[arg-type]  # the caller's mistake
    results = await asyncio.gather(
        store.append(Append("before", 1, b"v")),
        store.append(wrong),
        store.append(Append("behind", 1, b"v")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [type(None), StorageUnavailable, type(None)]
    assert await store.logs("", "", 10) == ["before", "behind"]
    assert await store.marks("", "", 10) == []
    with pytest.raises(StorageUnavailable, match="sqlite error 3091"):
        await store.append(wrong)
    await store.append(Append("wrong", 1, b"right"))
    assert (await store.posture())["reasons"] == []


async def test_a_store_whose_loop_cancels_everything_still_closes(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    (writer,) = [task for task in asyncio.all_tasks() if task.get_name() == "store writer"]
    writer.cancel()
    await asyncio.wait([writer])
    with pytest.raises(StorageUnavailable, match="closed"):
        await store.append(Append("log", 1, b"v"))
    await store.close()


def test_a_full_disk_is_called_by_its_name(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "small.db")) as db:
        db.execute("PRAGMA max_page_count = 2")
        with pytest.raises(sqlite3.OperationalError) as full:
            db.execute("CREATE TABLE big AS SELECT zeroblob(100000)")
    assert "the disk is full: free some space" in unavailable(full.value).message


def test_an_error_without_a_known_cause_never_shows_a_statement(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "some.db")) as db, pytest.raises(sqlite3.OperationalError) as failed:
        db.execute("SELECT secret FROM nowhere")
    assert unavailable(failed.value).message == "the store failed with sqlite error 1: report it with this number"


@pytest.mark.parametrize(
    ("journal_mode", "synchronous", "durable"),
    [
        ("wal", 2, True),
        ("wal", 3, True),
        ("delete", 2, True),
        ("wal", 1, False),
        ("wal", 0, False),
        ("memory", 2, False),
        ("off", 3, False),
    ],
)
def test_durable_means_synced_before_the_answer(journal_mode: str, synchronous: int, durable: bool) -> None:
    assert describe(journal_mode, synchronous, [])["durable"] is durable


def test_of_a_batch_each_append_is_judged_for_itself() -> None:
    adds = [Add("log", b"log", position, b"%d" % n, {}, {b"m": b"%d" % n}) for n, position in enumerate([4, 6, 5, 5])]
    rows = plan([[add] for add in adds], {b"log": 3})
    outcomes = [answer.length if isinstance(answer, PositionTaken) else "written" for answer in rows.answers]
    assert outcomes == ["written", 4, "written", 5]
    assert rows.entries == [(b"log", 4, b"0"), (b"log", 5, b"2")]
    assert rows.logs == []
    assert rows.marks == {b"m": b"2"}


def test_entries_of_one_append_are_added_all_or_none() -> None:
    def add(log: str, position: int | None) -> Add:
        return Add(log, log.encode(), position, b"v", {}, {log.encode(): b"m"})

    groups = [
        [add("a", 1), add("tail", None)],
        [add("tail", None), add("b", 2)],  # its second is refused, so the first must leave no trace
        [add("tail", None), add("a", 2), add("a", 3), add("tail", None)],
        [add("a", 4), add("a", 4)],
        [add("a", 4)],
    ]
    rows = plan(groups, {b"tail": 7})
    outcomes = [answer if isinstance(answer, int) else str(answer) for answer in rows.answers]
    assert outcomes == [2, "b has 0 entries", 4, "a has 3 entries", 1]
    assert [(log, position) for log, position, _ in rows.entries] == [
        *((b"a", 1), (b"tail", 8)),
        *((b"tail", 9), (b"a", 2), (b"a", 3), (b"tail", 10)),
        (b"a", 4),
    ]
    assert rows.logs == [(b"a",)]
    assert set(rows.marks) == {b"a", b"tail"}


def test_of_claims_to_one_name_the_first_has_it() -> None:
    claims = [Claim(name, 1) for name in (b"a", b"b", b"a", b"c")]
    assert share_out(claims, [b"a", b"c"]) == [1, 0, 0, 1]
