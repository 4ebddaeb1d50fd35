"""A bus whose own keys the test knows: it can look on where only the daemon is, and speak in the daemon's place."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.bus.stage import Logbook, Stage, TablePolicy
from unibus.bus.keys import BusKeys, login_seed
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.crypto.nkeys import SigningKey


class Remembering:
    """Randomness that remembers what it gave; the first five seeds are the bus's own keys."""

    def __init__(self) -> None:
        self._seeds: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        drawn = os.urandom(size)
        if size == 32:
            self._seeds.append(drawn)
        return drawn

    def keys(self) -> BusKeys:
        """The bus's keys, made again."""
        seeds = iter(self._seeds)
        return BusKeys.generate(lambda _size: next(seeds))


@dataclass
class Onlooker:
    """Sees every message in one account. `seen` are the subjects, in order."""

    client: Client
    seen: list[str] = field(default_factory=list)

    async def note(self, message: Msg) -> None:
        self.seen.append(message.subject)


@dataclass
class Watched:
    """A running bus and its keys."""

    stage: Stage
    keys: BusKeys

    @asynccontextmanager
    async def inside(self, key: SigningKey) -> AsyncIterator[Client]:
        """A connection with one of the daemon's own logins."""
        client = await nats.connect(
            f"nats://127.0.0.1:{self.stage.plane.client_port}",
            nkeys_seed_str=login_seed(key),
            allow_reconnect=False,
            max_reconnect_attempts=1,
        )
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def onlooker(self, key: SigningKey) -> AsyncIterator[Onlooker]:
        """Everything that is sent in the account of one of the daemon's logins, from now on."""
        async with self.inside(key) as client:
            looking = Onlooker(client)
            await client.subscribe(">", cb=looking.note)
            await client.flush()
            yield looking


@asynccontextmanager
async def watched(data_dir: Path) -> AsyncIterator[Watched]:
    """A bus that enforces, and what it holds secret."""
    random, log, policy = Remembering(), Logbook(), TablePolicy()
    plane = BusPlane(BusOptions(data_dir, port=0), policy, log.logger, random=random)
    await plane.start()
    try:
        yield Watched(Stage(plane, policy, log), random.keys())
    finally:
        await plane.stop()
