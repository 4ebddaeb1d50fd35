"""A bus that is sent, and a place without one that takes it in: real stores, and messages that are only noted."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.builders import AT
from tests.services.running import TOKEN, Node, running
from unibus.crypto.encoding import b64u
from unibus.errors import RuleBroken
from unibus.model.backup import Header, Line, Messages, Records, StoredBlob, write_line
from unibus.services.backups import measure, write_heads
from unibus.services.moving import Moving
from unibus.services.ports import StreamState
from unibus.store.blob_files import FileBlobs

ENDED = AT + 10
"""When the bus that is sent stood still, Unix seconds."""
NOW = AT + 20
FRAMES = b"what JetStream makes of all frames"
HELD = StreamState(3, 99, 1, 3)


@dataclass
class NotedMessages:
    """Implements `MessagesPlace`: knows what it was told to take in."""

    state: StreamState = field(default_factory=lambda: StreamState(0, 0, 1, 0))

    async def holds(self, state: StreamState) -> bool:
        return self.state == state

    async def take_in(self, path: Path, state: StreamState) -> None:
        if self.state.last and self.state != state:
            raise RuleBroken("the bus has messages already")
        assert await asyncio.to_thread(path.read_bytes) == FRAMES
        self.state = state


class Sent:
    """What is sent of a bus whose store was copied to the file `records`."""

    def __init__(self, records: Path, bus: str) -> None:
        self.records = records
        self.header = Header(bus=bus, at=ENDED, node="")
        self.frames = FRAMES
        self.blobs: list[StoredBlob] = []

    @classmethod
    async def of(cls, node: Node, records: Path) -> "Sent":
        """What is sent of the bus of `node`."""
        await node.store.snapshot(records)
        return cls(records, str(node.books.directory.bus))

    def manifest(self) -> bytes:
        """The manifest of what is there now."""
        held = self.records.with_suffix(".messages")
        held.write_bytes(FRAMES)
        size, digest = measure(held)
        frames = Messages(
            size=size, sha256=digest, messages=HELD.messages, bytes=HELD.bytes, first=HELD.first, last=HELD.last
        )
        size, digest = measure(self.records)
        path = self.records.with_suffix(".manifest")
        with path.open("wb") as file:
            lines: list[Line] = [self.header, frames, *self.blobs, Records(size=size, sha256=digest)]
            file.write(b"".join(map(write_line, lines)))
            write_heads(self.records, file)
        return path.read_bytes()

    def alter(self, statement: str, *values: object) -> None:
        """Run SQL on the copy, which has to change something, its triggers put aside meanwhile."""
        with closing(sqlite3.connect(self.records)) as db:
            triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                db.execute(f"DROP TRIGGER {name}")
            assert db.execute(statement, values).rowcount > 0
            for _, sql in triggers:
                db.execute(sql)
            db.commit()


@dataclass
class Place:
    """Where a bus is taken in."""

    node: Node
    moving: Moving
    messages: NotedMessages

    async def begin(self, sent: Sent) -> None:
        """The steps up to the one after which no node serves."""
        await self.moving.take_manifest(TOKEN, blocks(sent.manifest()))
        await self.moving.take_records(TOKEN, blocks(sent.records.read_bytes()))
        await self.node.books.load()

    async def take(self, sent: Sent) -> None:
        """All steps."""
        await self.begin(sent)
        await self.moving.take_messages(TOKEN, blocks(sent.frames))
        await self.moving.finish(TOKEN)
        await self.node.books.load()


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    """`data` as it comes over the wire."""
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


@asynccontextmanager
async def place(path: Path, *, token: str | None = TOKEN, shared: bool = True) -> AsyncIterator[Place]:
    """A place with its store in the directory `path`."""
    await asyncio.to_thread(path.mkdir)
    async with running(path / "unibus.db", now=NOW, bootstrap=token) as node:
        messages = NotedMessages()
        moving = Moving(
            books=node.books,
            store=node.store,
            blobs=await FileBlobs.open(path / "blobs"),
            messages=messages,
            audit=node.audit,
            bootstrap=lambda: token,
            clock=lambda: NOW,
            work=path / "moving",
            shared=shared,
        )
        yield Place(node, moving, messages)


NO_BLOB = b64u(bytes(32))
