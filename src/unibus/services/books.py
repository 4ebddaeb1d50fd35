"""The daemon's own verified state: the directory, whole, and the rooms that were lately needed.

Everything is reduced from the store's records by the same code that clients use, signatures included: a store that was
tampered with does not load. Only services append, through `extend`; nothing else writes.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from weakref import WeakValueDictionary

from unibus.crypto.heads import EMPTY, Head, digest
from unibus.errors import HeadConflict, NoQuorum, NotFound, StorageUnavailable, UnibusError
from unibus.model.directory import Directory
from unibus.model.records import DIRECTORY, ROOM_PREFIX, Record, read_records, room_log
from unibus.model.room import Room
from unibus.services.moves import LOG as MOVES
from unibus.services.moves import Move, last_move
from unibus.store.port import Append, PositionTaken, Store
from unibus.tasks import spread

PAGE = 500
ROOMS_KEPT = 2048
_READING = "this node is still reading the bus's records: try again"


class Books:
    """Directory and rooms as of the store. `lock(log)` orders what is decided and appended for one log."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._loaded = False
        self.directory = Directory()
        self.restored = 0
        """Unix seconds up to which what was made may have been spent since, because a backup was restored; or 0."""
        self._move: Move | None = None
        self._moves_read = self._moves_heard = 0
        self._rooms: OrderedDict[str, Room] = OrderedDict()
        self._loading: Counter[str] = Counter()
        self._heard: dict[str, int] = {}
        """The newest record that the store is known to have, of the directory and of rooms held or being read."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock(self, log: str) -> asyncio.Lock:
        """The lock of one log: hold it from check to apply."""
        return self._locks.setdefault(log, asyncio.Lock())

    def heard(self, log: str, position: int) -> None:
        """Note that the store has the record `position` of `log`: whatever is answered from now on knows it."""
        room = log.removeprefix(ROOM_PREFIX)
        if log == MOVES:
            self._moves_heard = position
        elif log == DIRECTORY or room in self._rooms or room in self._loading:
            self._heard[log] = position

    async def refresh(self) -> None:
        """Bring the directory up to what the store is known to have. Raises StorageUnavailable."""
        if self._heard.get(DIRECTORY, 0) > self.directory.head.sequence:
            await self.load()

    async def load(self) -> None:
        """Read the directory on from the store. Raises StorageUnavailable when its records do not hold."""
        while True:
            before, _ = await last_move(self._store)
            await self._read_on(DIRECTORY, self.directory)
            self._moves_read, self._move = await last_move(self._store)
            if self._moves_read == before:  # or what was read may be a part of what was just being moved in
                break
        self._loaded = True

    @property
    def moving(self) -> bool:
        """Whether a bus is being moved in here, so that what is here is not the bus yet."""
        begun = self._move is not None and self._move.stage == "begun"
        return begun or self._moves_heard > self._moves_read

    @property
    def floor(self) -> int:
        """Unix seconds up to which no signed request is good: it may have been used before a restore or a move."""
        return max(self.restored, self._move.floor if self._move is not None else 0)

    def check_read(self) -> None:
        """Return if what is known here is what the store has now. Raises StorageUnavailable."""
        reason = self._store.current()
        if reason is None and not self._loaded:
            reason = _READING
        if reason is not None:
            raise NoQuorum(reason) if reason.startswith(NoQuorum.title) else StorageUnavailable(reason)

    def check_current(self) -> None:
        """Return if the directory is what it is now. Raises StorageUnavailable: nobody is admitted on an old one."""
        self.check_read()
        if self.moving:
            raise StorageUnavailable("a bus is being moved in here: wait until unibus migrate-to-kv is through")

    def holds(self, room: str) -> bool:
        """Whether the room's state is held here, so that nothing needs to be read for it."""
        return room in self._rooms

    async def room(self, room: str) -> Room:
        """The room's state now. Raises NotFound for a room that does not exist, StorageUnavailable."""
        log = room_log(room)
        if room not in self._rooms:
            await self._load_room(room)
        state = self._rooms[room]
        self._rooms.move_to_end(room)
        if self._heard.get(log, 0) > state.head.sequence:
            await self._read_on(log, state)
        return state

    async def _load_room(self, room: str) -> None:
        if not self._loaded:
            raise StorageUnavailable(_READING)  # another node's removal may be heard of before
        if self.directory.bus is None:
            raise NotFound("this bus has no users yet")
        state = Room(self.directory.bus, room)
        self._loading[room] += 1
        try:
            await self._read_on(room_log(room), state)
            if state.head.sequence == 0:
                raise NotFound("there is no such room for you")
            self._keep(state)
        finally:
            self._loading -= Counter({room: 1})
            if room not in self._rooms and room not in self._loading:
                self._heard.pop(room_log(room), None)

    def _keep(self, state: Room) -> None:
        # Two readers may have loaded it at once: the one that has seen more stays.
        known = self._rooms.get(state.id)
        if known is None or known.head.sequence < state.head.sequence:
            self._rooms[state.id] = state
        while len(self._rooms) > ROOMS_KEPT:
            evicted, _ = self._rooms.popitem(last=False)
            self._heard.pop(room_log(evicted), None)

    async def _read_on(self, log: str, state: Directory | Room) -> None:
        """Apply what the store has beyond `state`. Others may do so at the same time: each record is applied once."""
        while page := await self._store.entries(log, state.head.sequence, PAGE):
            records = await spread(read_records, [entry.value for entry in page])
            for position, record in enumerate(records, page[0].position):
                if isinstance(record, UnibusError):
                    raise _broken(record) from record
                if state is not self.directory and _names(record) > self.directory.head.sequence:
                    await self.load()
                if position == state.head.sequence + 1:
                    self._take(record, state if isinstance(state, Room) else None)

    def _take(self, record: Record, room: Room | None) -> None:
        try:
            if room is None:
                self.directory.check(record)
                self.directory.apply(record)
            else:
                room.check(record, self.directory)
                room.apply(record, self.directory)
        except UnibusError as error:
            raise _broken(error) from error

    async def extend(
        self,
        record: Record,
        room: Room | None,
        *,
        attachments: Mapping[str, bytes] | None = None,
        marks: Mapping[str, bytes | None] | None = None,
        beside: Sequence[Append] = (),
    ) -> None:
        """Append a checked record, with what is to be written `beside` it in the same step, and apply it.

        The caller holds the log's lock and shields this from cancellation.

        Raises HeadConflict when another writer was first; what it wrote is read before that.
        """
        try:
            await self._store.append(
                Append(record.log, record.sequence, record.raw, attachments or {}, marks or {}), *beside
            )
        except PositionTaken as taken:
            await self._read_on(record.log, self.directory if room is None else room)
            last = await self._store.last(record.log)
            raise HeadConflict(
                f"the log's head is record {taken.length}: fetch what is new and sign again",
                sequence=last.position if last else 0,
                hash=(Head(last.position, digest(last.value)) if last else EMPTY).hash,
            ) from taken
        # A store that tells of its records may have had this one read from it already.
        if room is None:
            if self.directory.head.sequence < record.sequence:
                self.directory.apply(record)
            return
        if room.head.sequence < record.sequence:
            room.apply(record, self.directory)
        self._keep(room)


def _names(record: Record) -> int:
    """The record of the directory that a room's record says its signer knew."""
    return record.directory.sequence if record.directory else 0


def _broken(error: UnibusError) -> StorageUnavailable:
    return StorageUnavailable(f"a stored record does not hold: {error}; restore from a backup")
