"""What goes on while a bus is broken: people send, read, append and ask, and somebody replays what they overheard.

All goes through the client library with all nodes given, so that none of it may fail; only the overheard requests are
sent raw, to one node after another. Everything is recorded.
"""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import aiohttp

from tests.builders import identity
from tests.chaos.history import MESSAGES, Accepted, Failed, History, Seen, Shown, Written
from tests.support.captured import Captured, session
from tests.support.cluster import Cluster
from tests.support.people import Tail
from unibus import Bus, Room
from unibus.errors import NotFound, UnibusError
from unibus.model.bodies import UserAdmit, UserRename
from unibus.model.records import DIRECTORY, read_record

PAUSE = 0.01
"""Seconds between two operations of one person: the load is to be steady, not the most there can be."""
ASK_PAUSE = 0.05
OVERHEARD = 800
LAST = "ada says goodbye"
READERS = ("bob", "carol")
PEOPLE = (*READERS, "dave", "erin")


class Workload:
    """Made by `workload`. `history` grows while it runs; `finish` ends it and gives the readers time to read all."""

    def __init__(self, cluster: Cluster, buses: dict[str, Bus], room: str) -> None:
        self.cluster = cluster
        self.history = History()
        self._buses = buses
        self._room = room
        self._rooms: dict[str, Room] = {}
        self._tails: dict[str, Tail] = {}
        self._over = asyncio.Event()
        self._overheard: deque[Captured] = deque(maxlen=OVERHEARD)
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Start all of it."""
        for name, bus in self._buses.items():
            if name != "erin":
                self._rooms[name] = await bus.room("ops")
        self._tails = {name: Tail(self._rooms[name]) for name in (*READERS, "dave")}
        wire = session(self.cluster.tls)
        ada, bob = self._buses["ada"], self._buses["bob"]

        async def admit(number: int) -> None:
            await ada.admit(f"user-{number}", identity(f"user-{number}").card())

        async def rename(number: int) -> None:
            await bob.rename(bob.user, f"bob-{number}")

        loops: list[Awaitable[None]] = [
            self._send("ada"),
            self._send("carol"),
            self._append(
                "ada", lambda number: ada.admit(f"user-{number}", identity(f"user-{number}").card()), "admits user"
            ),
            self._append("bob", rename, "is bob"),
            self._ask_heads(),
            self._ask_raw(wire),
        ]
        self._tasks = [asyncio.ensure_future(loop) for loop in loops]

    async def remove_dave(self) -> None:
        """Have ada take dave out of the room, and note when that was acknowledged."""
        await self._rooms["ada"].remove("dave")
        self.history.removed["dave"] = time.monotonic()

    async def finish(self) -> History:
        """End it, and return the history once all that was sent is read, or will not be."""
        self._over.set()
        await asyncio.gather(*self._tasks)
        begun = time.monotonic()
        await self._rooms["ada"].send(LAST)
        self.history.written.append(Written(MESSAGES, LAST, begun, time.monotonic()))
        for name, tail in self._tails.items():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(10):
                    while LAST not in tail.texts[-1:] and name not in self.history.removed:
                        await tail.until(len(tail.got) + 1)
            if name in self.history.removed:
                ended = await tail.end()
                if not isinstance(ended, NotFound):
                    self.history.failed.append(Failed(f"{name}'s reading after the removal", repr(ended), begun))
            await tail.close()
            self.history.got[name] = tail.texts
            self.history.refused += [f"{refusal.error.code} {refusal.error.message}" for refusal in tail.refused]
        return self.history

    async def shown(self, node: str) -> Shown:
        """What one node shows in the end."""
        async with self.cluster.enter("bob", node, only=True) as bus:
            room = await bus.room("ops")
            texts: list[str] = []
            async with asyncio.timeout(20), aclosing(room.messages("start")) as messages:
                async for message in messages:
                    texts.append(message.text)
                    if texts[-1] == LAST:
                        break
            return {MESSAGES: texts, DIRECTORY: await self._directory(bus)}

    async def _directory(self, bus: Bus) -> list[str]:
        found: list[str] = []
        after = 0
        while (page := await bus.api.records(DIRECTORY, after)).records:
            for text in page.records:
                after += 1
                body = read_record(text.encode()).body
                if isinstance(body, UserAdmit) and body.handle.startswith("user-"):
                    found.append(f"ada admits user {body.handle.removeprefix('user-')}")
                elif isinstance(body, UserRename):
                    found.append(f"bob is bob {body.handle.removeprefix('bob-')}")
                else:
                    found.append(f"somebody wrote {after}")
        return found

    async def _write(self, where: str, what: str, work: Callable[[], Awaitable[object]]) -> None:
        begun = time.monotonic()
        try:
            await work()
        except UnibusError as error:
            self.history.failed.append(Failed(what, f"{error.code}: {error.message}", time.monotonic()))
        else:
            self.history.written.append(Written(where, what, begun, time.monotonic()))
        await asyncio.sleep(PAUSE)

    async def _send(self, name: str) -> None:
        number = 0
        while not self._over.is_set():
            text = f"{name} says {number}"
            await self._write(MESSAGES, text, lambda text=text: self._rooms[name].send(text))  # type: ignore[misc]  # bound now
            number += 1

    async def _append(self, name: str, append: Callable[[int], Awaitable[None]], what: str) -> None:
        number = 0
        while not self._over.is_set():
            await self._write(DIRECTORY, f"{name} {what} {number}", lambda number=number: append(number))  # type: ignore[misc]  # bound now
            number += 1

    async def _ask_heads(self) -> None:
        """Read as a client does that goes from node to node and knows what it has seen."""
        api, known = self._buses["erin"].api, 0
        while not self._over.is_set():
            try:
                known = (await api.records(DIRECTORY, known, known)).head.sequence
                self.history.seen.append(Seen("erin", DIRECTORY, known))
            except UnibusError as error:
                self.history.failed.append(Failed("erin reads", f"{error.code}: {error.message}", time.monotonic()))
            api.nodes.leave(api.nodes.current)
            await asyncio.sleep(ASK_PAUSE)

    async def _ask_raw(self, wire: aiohttp.ClientSession) -> None:
        """Send a request to one node, and at once and later to others, as one who has overheard it."""
        asking: set[asyncio.Task[None]] = set()
        async with wire:
            while not self._over.is_set():
                fresh = Captured.by(identity("bob"), self._buses["bob"].id)
                for node in self.cluster.nodes:
                    asking.add(asyncio.create_task(self._present(wire, fresh, node.name)))
                if self._overheard:
                    old = random.choice(self._overheard)  # noqa: S311 - any will do
                    asking.add(asyncio.create_task(self._present(wire, old, random.choice(self.cluster.nodes).name)))  # noqa: S311 - likewise
                self._overheard.append(fresh)
                await asyncio.sleep(ASK_PAUSE)
                asking = {task for task in asking if not task.done()}
            await asyncio.gather(*asking)

    async def _present(self, wire: aiohttp.ClientSession, captured: Captured, node: str) -> None:
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            if await captured.send(wire, self.cluster[node].url, 5.0) == 200:
                self.history.accepted.append(Accepted(captured.nonce, node))


@asynccontextmanager
async def workload(cluster: Cluster) -> AsyncIterator[Workload]:
    """A workload on a founded cluster, begun: each person prefers another node."""
    await cluster.found(*PEOPLE)
    async with AsyncExitStack() as stack:
        at = dict(zip(("ada", "bob", "carol", "dave", "erin"), ("n1", "n2", "n3", "n2", "n3"), strict=True))
        buses = {name: await stack.enter_async_context(cluster.enter(name, node)) for name, node in at.items()}
        room = await buses["ada"].create_room("ops")
        for name in (*READERS, "dave"):
            await room.add(name)
        made = Workload(cluster, buses, room.id)
        await made.begin()
        yield made
