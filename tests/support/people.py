"""People on a real bus: founding it, coming in, and reading without end in the background."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.builders import identity
from unibus import Bus, Message, Room, connect
from unibus.client.founding import found_bus
from unibus.client.messages import Position, Refusal
from unibus.client.room import Since

WAIT = 30.0  # seconds


@dataclass(frozen=True)
class Place:
    """Where a node serves, whatever it runs in."""

    url: str
    data_dir: Path

    @property
    def token(self) -> str:
        """The bootstrap token, as a reader of the data directory sees it."""
        return (self.data_dir / "bootstrap-token").read_text().strip()

    async def found(self, *others: str) -> None:
        """Make the bus, with ada as its admin and `others` as users."""
        await found_bus(self.url, identity("ada"), self.token, "ada")
        if others:
            async with self.enter("ada") as ada:
                for name in others:
                    await ada.admit(name, identity(name).card())

    @asynccontextmanager
    async def enter(self, name: str, state: Path | None = None) -> AsyncIterator[Bus]:
        """Connect as `name`."""
        async with connect(self.url, identity(name), state=state) as bus:
            yield bus

    def bytes_on_disk(self) -> bytes:
        """All that stands in the files of the data directory."""
        return b"\0".join(path.read_bytes() for path in sorted(self.data_dir.rglob("*")) if path.is_file())


class Tail:
    """Reads a room in the background. `got` is what came, `refused` what was not believed."""

    def __init__(self, room: Room, since: Since = "start") -> None:
        self.got: list[Message] = []
        self.refused: list[Refusal] = []
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._read(room, since), name="tail")

    async def _read(self, room: Room, since: Since) -> None:
        try:
            async for message in room.messages(since, on_refused=self.refused.append):
                self.got.append(message)
                self._more.set()
        finally:
            self._more.set()

    @property
    def texts(self) -> list[str]:
        return [message.text for message in self.got]

    @property
    def positions(self) -> list[Position]:
        return [message.position for message in self.got]

    async def until(self, count: int) -> list[str]:
        """The texts, once there are `count`; what ended the reading, if it ended before."""
        async with asyncio.timeout(WAIT):
            while len(self.got) < count:
                self._more.clear()
                if self._task.done():
                    await self._task
                await self._more.wait()
        return self.texts

    async def end(self) -> BaseException | None:
        """What ended the reading by itself, once it has."""
        async with asyncio.timeout(WAIT):
            await asyncio.wait([self._task])
        return self._task.exception()

    async def close(self) -> None:
        """Stop reading."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def tail(room: Room, since: Since = "start") -> AsyncIterator[Tail]:
    """A `Tail` that ends with the block."""
    reading = Tail(room, since)
    try:
        yield reading
    finally:
        await reading.close()
