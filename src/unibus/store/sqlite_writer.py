"""The SQLite engine's one writer: all writes that wait go into one transaction, one sync of the disk serves them all.

It must never answer before the commit, never let one write's failure become another's, and never leave a
caller without an answer.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from unibus.errors import StorageUnavailable
from unibus.store.sqlite_commit import commit
from unibus.store.sqlite_errors import CLOSED, Condition, primary_code
from unibus.store.sqlite_plan import Write

# Bounds of one transaction, so that nobody waits long behind the others.
MOST_WRITES = 512
MOST_BYTES = 8 * 1024 * 1024

T = TypeVar("T")


@dataclass(slots=True)
class _Waiter:
    write: Write
    answer: asyncio.Future[int]


class Writer:
    """Owns `db`, a connection in autocommit mode that other threads may use, and a thread for it.

    Make it inside a running event loop; `close` closes the connection, too. `condition` is told how writes fare.
    """

    def __init__(self, db: sqlite3.Connection, condition: Condition) -> None:
        self._db = db
        # A transaction is one visit to this thread: each more would be a wait for a busy interpreter's lock.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store writer")
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

    async def ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """What `question` finds on the connection, between two transactions. Raises sqlite3.Error."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, question, self._db)

    async def close(self) -> None:
        """Write what was accepted, then stop. Safe to call once."""
        self._closed = True
        self._wake.set()
        # Not awaited as such: had it been cancelled, the one who closes would seem to be.
        await asyncio.wait([self._task])
        await self.ask(sqlite3.Connection.close)
        self._thread.shutdown()

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
            answers = await self.ask(partial(commit, writes=[waiter.write for waiter in batch]))
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


def _settle(waiter: _Waiter, answer: int | Exception) -> None:
    if waiter.answer.done():
        return  # its caller was cancelled
    if isinstance(answer, Exception):
        waiter.answer.set_exception(answer)
    else:
        waiter.answer.set_result(answer)
