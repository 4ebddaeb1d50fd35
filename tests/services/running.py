"""The services over a real store in a file, with a bus that only notes what it is asked to do."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders import AT, Change, RoomStory, Story, user
from unibus.crypto.heads import Head
from unibus.services.audit import Audit
from unibus.services.books import Books
from unibus.services.gate import Gate
from unibus.services.membership import Membership
from unibus.services.ports import Taken
from unibus.services.reading import Reading
from unibus.store.sqlite import SqliteStore

TOKEN = "bootstrap-token"  # noqa: S105 - a test's own


@dataclass
class NotedEffects:
    """Implements `BusEffects`: keeps the calls in order. After `hold` each call sets `reached` and waits for `held`."""

    calls: list[tuple[object, ...]] = field(default_factory=list)
    waited: list[tuple[str, int, tuple[Taken, ...]]] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.held.set()

    def hold(self) -> None:
        self.held.clear()
        self.reached.clear()

    async def announce(self, users: Collection[str], log: str, sequence: int, digest: str) -> None:
        await self._note("announce", frozenset(users), log, sequence, digest)

    async def withdraw(self, user: str, room: str) -> None:
        await self._note("withdraw", user, room)

    async def cut(self, user: str) -> None:
        await self._note("cut", user)

    async def retain(self, room: str, seconds: int | None, size: int | None) -> None:
        await self._note("retain", room, seconds, size)

    async def took_effect(self, log: str, position: int, taken: Collection[Taken]) -> None:
        self.waited.append((log, position, tuple(taken)))

    async def _note(self, *call: object) -> None:
        self.reached.set()
        await self.held.wait()
        self.calls.append(call)


@dataclass
class Node:
    """One daemon's services, and the store under them."""

    store: SqliteStore
    books: Books
    gate: Gate
    membership: Membership
    reading: Reading
    effects: NotedEffects
    audit: Audit

    async def found(self, story: Story) -> None:
        """Bring all of the story's directory."""
        await self.membership.found(TOKEN, story.records[0])
        for raw in story.records[1:]:
            await self.membership.append_directory(user("ada"), raw)

    async def bring(self, by: str, room: RoomStory, change: Change) -> Head:
        return await self.membership.append_room(user(by), room.id, change.raw, change.sealed)

    async def take(self, by: str, room: RoomStory, change: Change) -> None:
        """Bring a change of a room, and let the story take it too."""
        await self.bring(by, room, change)
        room.take(change)

    async def written(self) -> dict[str, list[bytes]]:
        """All that stands in the store's logs, but for the audit trail."""
        logs = [log for log in await self.store.logs("", "", 1000) if not log.startswith("audit/")]
        return {log: [entry.value for entry in await self.store.entries(log, 0, 1000)] for log in logs}


@asynccontextmanager
async def running(
    path: Path, *, now: float = AT, bootstrap: str | None = TOKEN, engine: type[SqliteStore] = SqliteStore
) -> AsyncIterator[Node]:
    """A node on the file at `path`, at the Unix time `now`."""
    store = await engine.open(path)
    try:
        books = Books(store)
        await books.load()
        gate, effects = Gate(books, store), NotedEffects()
        audit = Audit(store, "test", lambda: now)
        membership = Membership(
            books,
            store,
            effects,
            lambda: now,
            audit=audit,
            bootstrap=lambda: None if books.directory.bus else bootstrap,
            founded=lambda: effects.calls.append(("founded",)),
        )
        yield Node(store, books, gate, membership, Reading(books, store, gate), effects, audit)
        await membership.close()
        await audit.close()
    finally:
        await store.close()
