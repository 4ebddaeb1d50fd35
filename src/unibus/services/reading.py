"""Reads of the control plane: pages of logs and the sealed keys of who asks. Writes nothing."""

from collections.abc import Sequence
from typing import NamedTuple

from unibus.crypto.heads import Head
from unibus.model.directory import Directory, Invite
from unibus.model.directory_rules import open_invite
from unibus.model.records import DIRECTORY, room_log
from unibus.model.room import Room
from unibus.services.books import Books
from unibus.services.gate import Gate, check_invite_of_restored
from unibus.store.port import Entry, Store


class LogPage(NamedTuple):
    """Some records of a log, as signed, and the log's head when they were read."""

    records: Sequence[bytes]
    head: Head


class Reading:
    """What users may read, through the gate."""

    def __init__(self, books: Books, store: Store, gate: Gate) -> None:
        self._books = books
        self._store = store
        self._gate = gate
        self._genesis: tuple[str, bytes] | None = None
        """The bus's id and its first record, once that was asked for: it stays the same for as long as the bus."""

    async def directory(self, actor: str, after: int, limit: int) -> LogPage:
        """Records of the directory, for anybody on the bus."""
        self._gate.user(actor)
        return await self._page(DIRECTORY, after, limit, self._books.directory)

    async def room(self, actor: str, room: str, after: int, limit: int) -> LogPage:
        """Records of a room, for its members."""
        return await self._page(room_log(room), after, limit, await self._gate.room(actor, room))

    async def _page(self, log: str, after: int, limit: int, state: Directory | Room) -> LogPage:
        if after >= state.head.sequence:  # nothing new, which is what most who ask find
            return LogPage([], state.head)
        entries = await self._store.entries(log, after, limit)
        return LogPage([entry.value for entry in entries], state.head)

    async def keys(self, actor: str, room: str, after: int, limit: int) -> list[Entry]:
        """The keys sealed to `actor` in a room, by the number of the record that they came with."""
        await self._gate.room(actor, room)
        return await self._store.attachments(room_log(room), actor, after, limit)

    def is_invite(self, key: str) -> bool:
        """Whether `key` is an invite of this bus, of whatever state."""
        return key in self._books.directory.invites

    def invitation(self, invite: str, now: int) -> tuple[Invite, Head]:
        """What an invite that can still be used is for, and the head that joining extends. Raises the Invite errors."""
        directory = self._books.directory
        found = open_invite(directory, invite, now)
        check_invite_of_restored(self._books, invite)
        return found, directory.head

    def bus_id(self) -> str | None:
        """The bus's id, for anybody; None before there is a bus. Raises StorageUnavailable if that cannot be known."""
        self._books.check_current()
        return self._books.directory.bus

    async def genesis(self) -> bytes | None:
        """The record that made the bus, for anybody: its hash is the bus's id. None before there is one."""
        bus = self._books.directory.bus
        if self._genesis is not None and self._genesis[0] == bus:
            return self._genesis[1]
        if bus is None:
            # Another node may have made it a moment ago, and then nobody must hear that there is none.
            await self._store.sync()
            await self._books.refresh()
        first = await self._store.entries(DIRECTORY, 0, 1)
        if not first:
            return None
        if bus is not None:
            self._genesis = bus, first[0].value
        return first[0].value
