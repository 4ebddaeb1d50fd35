"""What the cases run on: a unibus daemon with two users, and the references beside it, connected and warm."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
from nats.aio.client import Client as Nats

from bench.programs import Bare, Server, bare_handler, daemon, plain_nats
from unibus.client.bus import Bus, connect
from unibus.client.founding import found_bus
from unibus.client.room import Room
from unibus.crypto.identity import Identity
from unibus.daemon.data_dir import TOKEN


@dataclass(frozen=True, slots=True)
class Plain:
    """A nats-server as it comes: a connection that publishes and one that receives."""

    server: Server
    publisher: Nats
    receiver: Nats


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that is measured. `url` and `data` are the daemon's, `directory` takes what a case keeps meanwhile."""

    directory: Path
    url: str
    data: Path
    sender: Bus
    receiver: Bus
    plain: Plain
    synced: Plain
    """As `plain`, but synced to disk before it acknowledges, which is how unibus runs its own nats-server."""
    bare: Bare
    """`bench.bare`, which knows the sender's key."""

    async def room(self, name: str) -> tuple[Room, Room]:
        """A new room with both users in it, as the sender and as the receiver sees it."""
        room = await self.sender.create_room(name)
        await room.add("receiver")
        return room, await self.receiver.room(room.id)


@asynccontextmanager
async def stage(directory: Path) -> AsyncIterator[Stage]:
    """Start everything, with all data under `directory`. Raises UnibusError."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url, data = await enter(daemon(directory))
        sender, receiver = (Identity.from_secret(secrets.token_bytes(32)) for _ in range(2))
        await found_bus(url, sender, (data / TOKEN).read_text().strip(), "sender")
        admin = await enter(connect(url, sender))
        await admin.admit("receiver", receiver.card())
        yield Stage(
            directory,
            url,
            data,
            admin,
            await enter(connect(url, receiver)),
            await enter(_plain(directory / "plain", synced=False)),
            await enter(_plain(directory / "synced", synced=True)),
            await enter(bare_handler(directory, sender.user)),
        )


@asynccontextmanager
async def _plain(directory: Path, *, synced: bool) -> AsyncIterator[Plain]:
    async with (
        plain_nats(directory, synced=synced) as server,
        _client(server.url) as publisher,
        _client(server.url) as receiver,
    ):
        yield Plain(server, publisher, receiver)


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Nats]:
    client = await nats.connect(url, max_reconnect_attempts=1)
    try:
        yield client
    finally:
        await client.close()
