"""The client's own copy of the directory and of its rooms, verified record by record.

The trust rules, all here:
1. A log only grows. Shorter than remembered is LogRolledBack, once every node insists on it; different at a place that
   was seen before is LogForked.
2. Every record's signature, place and rights are checked by the same reducers as in the daemon. Else LogInvalid.
3. Nothing is taken in part: a page is applied record by record, and the first that does not hold ends it.
4. What holds is remembered (`Memory`) before the caller acts on it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable
from contextlib import aclosing

from unibus.client.api import ControlApi
from unibus.client.memory import Memory
from unibus.client.pages import read_pages
from unibus.errors import HeadConflict, LogForked, LogInvalid, LogRolledBack, NotFound, UnibusError, Untrusted
from unibus.model.directory import Directory
from unibus.model.names import check_room_id
from unibus.model.records import DIRECTORY, Record, room_log
from unibus.model.room import Room
from unibus.model.wire import RecordsPage


class Replica:
    """Verified state of one bus as one client sees it."""

    def __init__(self, api: ControlApi, memory: Memory, bus: str) -> None:
        self._api = api
        self._memory = memory
        self.bus = bus
        self.directory = Directory()
        self.rooms: dict[str, Room] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def nodes(self) -> int:
        """How many nodes there are to ask."""
        return len(self._api.nodes)

    async def sync_directory(self) -> Directory:
        """Fetch and verify what is new in the directory. Raises Untrusted errors as the rules say."""
        async with self._locks[DIRECTORY]:
            await self._sync(DIRECTORY, self.directory)
        return self.directory

    async def sync_room(self, room: str) -> Room:
        """Fetch and verify what is new in a room. Raises NotFound when this identity is not in it."""
        check_room_id(room)
        async with self._locks[room_log(room)]:
            state = self.rooms.get(room) or Room(self.bus, room)
            await self._sync(room_log(room), state)
            if state.head.sequence == 0:
                raise NotFound("there is no such room for you")
            self.rooms[room] = state
        return state

    async def look_for(self, room: str, records: int, directory: int) -> None:
        """Fetch what is new if the room has not `records`, or the directory not `directory`, records here yet.

        Somebody says that there are so many, and may be lying: each node is asked once. Raises as the two above.
        """
        for _ in range(self.nodes):
            if directory > self.directory.head.sequence:
                await self.sync_directory()
            if records > self.rooms[room].head.sequence:
                await self.sync_room(room)
            if records <= self.rooms[room].head.sequence and directory <= self.directory.head.sequence:
                return
            self._api.nodes.leave(self._api.nodes.current)

    async def _sync(self, log: str, state: Directory | Room) -> None:
        known, shown = self._known(log, state), state.head

        def fetch(after: int) -> Awaitable[RecordsPage]:
            return self._api.records(log, after, known)

        async with aclosing(read_pages(fetch, state.head.sequence)) as pages:
            async for page in pages:
                for record in page.records:
                    await self._take(log, state, record)
                shown = page.head
        if state.head.sequence < shown.sequence:
            raise LogInvalid(f"the server names {shown.sequence} records of {log} and shows {state.head.sequence}")
        if state.head_at(shown.sequence) not in {shown, None}:
            raise LogForked(f"the server names another head of {log} than its own records give")
        self._compare_with_memory(log, state)

    def _known(self, log: str, state: Directory | Room) -> int:
        remembered = self._memory.heads.get(log)
        return max(state.head.sequence, remembered.sequence if remembered is not None else 0)

    async def _take(self, log: str, state: Directory | Room, record: Record | UnibusError) -> None:
        try:
            if isinstance(record, UnibusError):
                raise record
            if isinstance(state, Directory):
                if state.bus is None and record.head.hash != self.bus:
                    raise LogForked(f"the server's directory does not begin with the record that makes {self.bus}")
                state.check(record)
                state.apply(record)
            else:
                await self._know_directory(record)
                state.check(record, self.directory)
                state.apply(record, self.directory)
        except HeadConflict as error:
            raise LogForked(f"the server's {log} log does not continue the one seen before: {error}") from error
        except Untrusted:
            raise
        except UnibusError as error:
            raise LogInvalid(f"record {state.head.sequence + 1} of {log} does not hold: {error}") from error

    async def _know_directory(self, record: Record) -> None:
        if record.directory is not None and record.directory.sequence > self.directory.head.sequence:
            await self.sync_directory()

    def _compare_with_memory(self, log: str, state: Directory | Room) -> None:
        known = self._memory.heads.get(log)
        if known is not None:
            if state.head.sequence < known.sequence:
                raise LogRolledBack(f"the server's {log} log ends at {state.head.sequence}, before {known.sequence}")
            if state.head_at(known.sequence) != known:
                raise LogForked(f"the server's {log} log is another than the one seen before, at {known.sequence}")
        self._memory.remember(log, state.head)
        self._memory.save()
