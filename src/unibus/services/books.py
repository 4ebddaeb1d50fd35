"""The daemon's own verified state: the directory, whole, and the rooms that were lately needed.

Everything is reduced from the store's records by the same code that clients use, signatures included: a store that was
tampered with does not load. Only services append, through `extend`; nothing else writes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from weakref import WeakValueDictionary

from unibus.crypto.heads import EMPTY, Head, digest
from unibus.errors import HeadConflict, NotFound, StorageUnavailable, UnibusError
from unibus.model.directory import Directory
from unibus.model.records import DIRECTORY, ROOM_PREFIX, Record, read_record, room_log
from unibus.model.room import Room
from unibus.store.port import Append, PositionTaken, Store

PAGE = 500
ROOMS_KEPT = 2048


class Books:
    """Directory and rooms as of the store. `lock(log)` orders what is decided and appended for one log."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.directory = Directory()
        self.restored = 0
        """Unix seconds up to which what was made may have been spent since, because a backup was restored; or 0."""
        self._rooms: OrderedDict[str, Room] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, log: str) -> asyncio.Lock:
        """The lock of one log: hold it from check to apply."""
        return self._locks.setdefault(log, asyncio.Lock())

    async def load(self) -> None:
        """Read the directory from the store. Raises StorageUnavailable when its records do not hold."""
        await self._catch_up(DIRECTORY)

    async def room(self, room: str) -> Room:
        """The room's state now. Raises NotFound for a room that does not exist."""
        if room not in self._rooms:
            state = await self._read_room(room)
            if state.head.sequence == 0:
                raise NotFound("there is no such room for you")
            self._keep(state)
        self._rooms.move_to_end(room)
        return self._rooms[room]

    async def _read_room(self, room: str) -> Room:
        if self.directory.bus is None:
            raise NotFound("this bus has no users yet")
        state = Room(self.directory.bus, room)
        while page := await self._store.entries(room_log(room), state.head.sequence, PAGE):
            for entry in page:
                self._take(entry.value, state)
        return state

    def _keep(self, state: Room) -> None:
        # Two readers may have loaded it at once: the one that has seen more stays.
        known = self._rooms.get(state.id)
        if known is None or known.head.sequence < state.head.sequence:
            self._rooms[state.id] = state
        while len(self._rooms) > ROOMS_KEPT:
            self._rooms.popitem(last=False)

    def _take(self, raw: bytes, room: Room | None) -> None:
        try:
            record = read_record(raw)
            if room is None:
                self.directory.check(record)
                self.directory.apply(record)
            else:
                room.check(record, self.directory)
                room.apply(record, self.directory)
        except UnibusError as error:
            raise StorageUnavailable(f"a stored record does not hold: {error}; restore from a backup") from error

    async def _catch_up(self, log: str) -> None:
        if log == DIRECTORY:
            while page := await self._store.entries(DIRECTORY, self.directory.head.sequence, PAGE):
                for entry in page:
                    self._take(entry.value, None)
        else:
            self._rooms.pop(log.removeprefix(ROOM_PREFIX), None)

    async def extend(
        self,
        record: Record,
        room: Room | None,
        *,
        attachments: Mapping[str, bytes] | None = None,
        marks: Mapping[str, bytes | None] | None = None,
    ) -> None:
        """Append a checked record and apply it. The caller holds the log's lock and shields this from cancellation.

        Raises HeadConflict when another writer was first; what it wrote is read before that.
        """
        try:
            await self._store.append(
                Append(record.log, record.sequence, record.raw, attachments or {}, marks or {}),
            )
        except PositionTaken as taken:
            await self._catch_up(record.log)
            last = await self._store.last(record.log)
            raise HeadConflict(
                f"the log's head is record {taken.length}: fetch what is new and sign again",
                sequence=last.position if last else 0,
                hash=(Head(last.position, digest(last.value)) if last else EMPTY).hash,
            ) from taken
        if room is None:
            self.directory.apply(record)
        else:
            room.apply(record, self.directory)
            self._keep(room)
