"""Rooms whose last member was taken off the bus: what they hold is freed, after a grace or at an admin's word.

Nobody can read such a room again: a revoked identity never comes back, and only a member lets others in. Its records
stay, as all records do. Must never drop anything of a room in which one active user is left, whoever asks, and must
tell nobody whether a room exists.
"""

from collections.abc import Callable

import structlog

from unibus.errors import NotFound, StorageUnavailable
from unibus.model.names import check_room_id
from unibus.model.records import DIRECTORY, read_record
from unibus.model.room import Room
from unibus.services.audit import NOBODY, Audit
from unibus.services.blobs import Blobs
from unibus.services.books import Books
from unibus.services.gate import Gate, member_mark
from unibus.services.ports import MessageDrop
from unibus.store.port import Store

PAGE = 500
GRACE = 7 * 86400.0  # seconds

log = structlog.stdlib.get_logger("unibus.abandoned")


class Abandoned:
    """What abandoned rooms hold. `clock` gives Unix seconds; `grace` is how many seconds they are left alone."""

    def __init__(
        self,
        books: Books,
        gate: Gate,
        store: Store,
        blobs: Blobs,
        messages: MessageDrop,
        audit: Audit,
        clock: Callable[[], float],
        grace: float = GRACE,
    ) -> None:
        self._books = books
        self._gate = gate
        self._store = store
        self._blobs = blobs
        self._messages = messages
        self._audit = audit
        self._clock = clock
        self._grace = grace
        self._freed: set[str] = set()

    async def purge(self, actor: str, room: str) -> None:
        """Free what an abandoned room holds, at once. For admins.

        Raises Forbidden, InvalidInput, StorageUnavailable, BusUnavailable, and NotFound for a room that is not there or
        not abandoned.
        """
        self._gate.admin(actor)
        await self._catch_up()
        self._gate.admin(actor)
        if await self._abandoned_since(check_room_id(room)) is None:
            raise NotFound("there is no such room without members on the bus")
        await self._free({room}, actor)

    async def sweep(self) -> int:
        """Free what rooms hold that were abandoned longer ago than the grace; how many they were.

        Raises StorageUnavailable, BusUnavailable.
        """
        await self._catch_up()
        before, due = self._clock() - self._grace, set()
        for room in await self._candidates():
            since = await self._abandoned_since(room)
            if since is not None and since <= before:
                due.add(room)
        if due:
            await self._free(due, NOBODY)
            log.info("freed what rooms without members held", rooms=len(due))
        return len(due)

    async def _catch_up(self) -> None:
        # Somebody may have been let into a room by another node just now.
        await self._store.sync()
        await self._books.refresh()
        self._books.check_current()

    async def _candidates(self) -> set[str]:
        """Rooms with revoked members and, by the marks, no active ones: few, so that few logs are read for it."""
        directory = self._books.directory
        found: set[str] = set()
        for user in [user for user in directory.users if not directory.active(user)]:
            found.update(await self._rooms_of(user))
        found -= self._freed
        for user in [user for user in directory.users if directory.active(user)]:
            if not found:
                break
            found.difference_update(await self._rooms_of(user))
        return found

    async def _rooms_of(self, user: str) -> list[str]:
        prefix = after = member_mark(user)
        rooms: list[str] = []
        while page := await self._store.marks(prefix, after, PAGE):
            rooms += [name.removeprefix(prefix) for name, _ in page]
            after = page[-1][0]
        return rooms

    async def _abandoned_since(self, room: str) -> int | None:
        """When the room's last member was taken off the bus, in Unix seconds; None if one is still on it, or no room.

        Decided on the room's own log: marks are only good for knowing where to look.
        """
        try:
            state = await self._books.room(room)
        except NotFound:
            return None
        ended = self._last_revocation(state)
        if ended is None:
            return None
        found = await self._store.entries(DIRECTORY, ended - 1, 1)
        if not found:
            raise StorageUnavailable("the directory's record of a revocation is not there: restore from a backup")
        return read_record(found[0].value).at

    def _last_revocation(self, room: Room) -> int | None:
        directory = self._books.directory
        ended = [directory.users[user].revoked for user in room.roles]
        known = [number for number in ended if number is not None]
        return max(known) if known and len(known) == len(ended) else None

    async def _free(self, rooms: set[str], actor: str) -> None:
        freed = await self._blobs.drop(rooms)
        for room in sorted(rooms):
            messages = await self._messages.drop(room)
            if messages or freed[room] or actor != NOBODY:
                await self._audit.done(
                    "room.purge", actor=actor, target=room, messages=messages, blob_bytes=freed[room]
                )
            self._freed.add(room)
