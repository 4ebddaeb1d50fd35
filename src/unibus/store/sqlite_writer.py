"""The SQLite engine's one writer: all writes that wait go into one transaction, one sync of the disk serves them all.

It must never answer before the commit, never let one write's failure become another's, and never leave a
caller without an answer.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import aiosqlite

from unibus.errors import StorageUnavailable
from unibus.store.port import PositionTaken
from unibus.store.sqlite_errors import CLOSED, Condition, primary_code
from unibus.store.sqlite_plan import Add, Answer, Claim, Follow, Forget, Probe, Write, plan, share_out

# Bounds of one transaction, so that nobody waits long behind the others.
MOST_WRITES = 512
MOST_BYTES = 8 * 1024 * 1024
# More than most writes need: on a full disk a page or two often still finds room where a write before it failed.
PROBE_BYTES = 256 * 1024

_ENTRY = "INSERT INTO entries (log, position, value) VALUES ((SELECT id FROM logs WHERE name = ?), ?, ?)"
_ATTACHMENT = (
    "INSERT INTO attachments (log, name, position, value) VALUES ((SELECT id FROM logs WHERE name = ?), ?, ?, ?)"
)
_MARK = "INSERT INTO marks (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_FORGET = "DELETE FROM claims WHERE expires_at < ? AND name != ?"
_FORGOTTEN = b"\xff"
"""In the place of a claim's name, which is UTF-8 and so never this: up to when claims have been forgotten."""
_FORGOT = """INSERT INTO claims (name, expires_at) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)"""
_FORGOTTEN_UP_TO = "coalesce((SELECT expires_at FROM claims WHERE name = ?), -9223372036854775808)"
_PLACE = "REPLACE INTO following (id, stream, sequence, digest) VALUES (1, ?, ?, ?)"
_LENGTHS = "SELECT name, (SELECT max(position) FROM entries WHERE log = logs.id) FROM logs WHERE name IN"


@dataclass(slots=True)
class _Waiter:
    write: Write
    answer: asyncio.Future[int]


class Writer:
    """Owns the writing side of `db`, a connection in autocommit mode.

    Make it inside a running event loop, and `close` it before the connection. `condition` is told how writes fare.
    """

    def __init__(self, db: aiosqlite.Connection, condition: Condition) -> None:
        self._db = db
        self._condition = condition
        self._waiting: deque[_Waiter] = deque()
        self._served: list[_Waiter] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._task = asyncio.create_task(self._run(), name="store writer")
        self._task.add_done_callback(self._leave)

    async def write(self, write: Write) -> int:
        """How many things were written, once they are on disk. Raises PositionTaken or StorageUnavailable.

        A caller that is cancelled has written either all or nothing.
        """
        if self._closed:
            raise StorageUnavailable(CLOSED)
        waiter = _Waiter(write, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        self._wake.set()
        return await waiter.answer

    async def close(self) -> None:
        """Write what was accepted, then stop."""
        self._closed = True
        self._wake.set()
        # Not awaited as such: had it been cancelled, the one who closes would seem to be.
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while not self._closed or self._waiting:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._take():
                self._served = batch
                await self._serve(batch)
            self._served = []

    def _leave(self, _task: asyncio.Task[None]) -> None:
        # Somebody still waits only when the task was cancelled, as a loop that is torn down does to all of them.
        self._closed = True
        for waiter in (*self._served, *self._waiting):
            _settle(waiter, StorageUnavailable(CLOSED))

    def _take(self) -> list[_Waiter]:
        batch: list[_Waiter] = []
        size = 0
        while self._waiting and len(batch) < MOST_WRITES and size < MOST_BYTES:
            waiter = self._waiting.popleft()
            if not waiter.answer.cancelled():
                batch.append(waiter)
                size += waiter.write.size
        return batch

    async def _serve(self, batch: Sequence[_Waiter]) -> None:
        try:
            answers = await self._commit([waiter.write for waiter in batch])
        except Exception as error:  # noqa: BLE001 - whatever it was, each that waits must be told
            # What failed may be one write's fault: a large one on a disk that is nearly full. Alone, each has its own
            # luck. Behind another program's lock all would only wait in turn.
            if len(batch) > 1 and primary_code(error) != sqlite3.SQLITE_BUSY:
                for waiter in batch:
                    await self._serve([waiter])
                return
            for waiter in batch:
                if isinstance(error, sqlite3.Error):
                    _settle(waiter, self._condition.refused(error, writing=True))
                else:
                    _settle(waiter, error)
            return
        if any(isinstance(answer, int) and answer for answer in answers):
            self._condition.wrote()
        for waiter, answer in zip(batch, answers, strict=True):
            _settle(waiter, answer)

    async def _commit(self, writes: Sequence[Write]) -> list[Answer]:
        claims = [write for write in writes if isinstance(write, Claim)]
        if len(claims) == len(writes):
            # One statement is a transaction of its own: two waits for the thread less, for what every request asks.
            return await self._claim(claims)
        await self._db.execute_fetchall("BEGIN IMMEDIATE")
        try:
            # What expired goes first, so that it may be claimed again at once.
            answers = {
                Forget: iter([await self._forget(write) for write in writes if isinstance(write, Forget)]),
                Claim: iter(await self._claim(claims)),
                Add: iter(await self._add([write for write in writes if isinstance(write, Add)])),
                Follow: iter([await self._follow(write) for write in writes if isinstance(write, Follow)]),
                Probe: iter([await self._probe() for write in writes if isinstance(write, Probe)]),
            }
            await self._db.execute_fetchall("COMMIT")
        except BaseException:
            await self._db.rollback()
            raise
        return [next(answers[type(write)]) for write in writes]

    async def _forget(self, write: Forget) -> Answer:
        async with self._db.execute(_FORGET, (write.now, _FORGOTTEN)) as cursor:
            dropped = cursor.rowcount
        await self._db.execute_fetchall(_FORGOT, (_FORGOTTEN, write.now - 1))
        return dropped

    async def _claim(self, claims: Sequence[Claim]) -> list[Answer]:
        if not claims:
            return []
        rows = ", ".join(["(?, ?)"] * len(claims))
        values = [value for claim in claims for value in (claim.name, claim.expires_at)]
        inserted = await self._db.execute_fetchall(
            f"INSERT INTO claims (name, expires_at) SELECT * FROM (VALUES {rows}) WHERE column2 > {_FORGOTTEN_UP_TO} "  # noqa: S608 - only question marks are put in
            "ON CONFLICT DO NOTHING RETURNING name",
            [*values, _FORGOTTEN],
        )
        return share_out(claims, [name for (name,) in inserted])

    async def _add(self, adds: Sequence[Add]) -> list[Answer]:
        if not adds:
            return []
        names = list({add.log for add in adds})
        wanted = ", ".join("?" * len(names))
        lengths = await self._db.execute_fetchall(f"{_LENGTHS} ({wanted})", names)
        rows = plan(adds, {row[0]: row[1] for row in lengths})
        await self._many("INSERT INTO logs (name) VALUES (?)", rows.logs)
        await self._many(_ENTRY, rows.entries)
        await self._many(_ATTACHMENT, rows.attachments)
        await self._many(_MARK, [(name, value) for name, value in rows.marks.items() if value is not None])
        await self._many("DELETE FROM marks WHERE name = ?", [(n,) for n, value in rows.marks.items() if value is None])
        return rows.answers

    async def _follow(self, write: Follow) -> Answer:
        for answer in await self._add(write.adds):
            if isinstance(answer, PositionTaken):
                raise answer  # undoes the whole write
        await self._db.execute_fetchall(_PLACE, write.place)
        return len(write.adds)

    async def _many(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            await self._db.executemany(statement, rows)

    async def _probe(self) -> Answer:
        await self._db.execute_fetchall("REPLACE INTO probe (id, value) VALUES (1, randomblob(?))", (PROBE_BYTES,))
        return 1


def _settle(waiter: _Waiter, answer: int | Exception) -> None:
    if waiter.answer.done():
        return  # its caller was cancelled
    if isinstance(answer, Exception):
        waiter.answer.set_exception(answer)
    else:
        waiter.answer.set_result(answer)
