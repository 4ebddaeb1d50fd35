"""Room that messages and blobs must leave: records lie on the same disks, and a revocation must find some.

nats-server has one limit for all that it stores. Before they reach it, the messages' stream is told to hold as many as
it does and no more (`max_msgs`: with "discard new" nothing is dropped by that), and to take messages again once there
is room. `max_bytes` would be exact, but nats-server counts it as taken, and changes no stream at all any more after its
limit has sunk below that. Must never drop a message, nor change another setting.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from structlog.typing import FilteringBoundLogger

from unibus.bus.links import Links
from unibus.errors import BusUnavailable
from unibus.model.subjects import STREAM

TAKEN = "messages and blobs have taken their room, and the rest is for records: let rooms keep less, or raise the limit"
KEPT = 10
"""One part in so many of what a server may store is for records alone."""
LEAST = 64 << 20
AGAIN = 8 << 20
"""Bytes that have to be free before messages are taken again."""
FASTEST = 1 << 30
"""Bytes a second that come in at most; the nearer the end, the more often it is looked."""
EVERY, SOONEST = 1.0, 0.05
"""Seconds between two looks."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What a server stores, and may store, in bytes."""

    bytes: int
    most: int

    @property
    def kept(self) -> int:
        """What of it is for records."""
        return min(max(self.most // KEPT, LEAST), self.most // 2)


def room(servers: Sequence[Stored], replicas: int) -> int:
    """How many bytes messages and blobs may still take; below 0 when they have taken more.

    On a majority of the `servers`, so that one whose disk is full stops nobody; with one of `replicas`, on the first.
    """
    free = [one.most - one.kept - one.bytes for one in servers]
    return free[0] if replicas == 1 else sorted(free)[(len(free) - 1) // 2]


def most_messages(free: int, held: int, most: int, *, sure: bool) -> int:
    """How many messages the stream is to hold at most, -1 for any number: it has `held`, and may have `most` now.

    It closes when no bytes are `free`, and opens when there are some more, lest it goes to and fro, and that is `sure`.
    """
    if free <= 0:
        return max(held, 1) if most <= 0 or held < most else most
    return -1 if sure and free > AGAIN else most


def pause(free: int, *, closed: bool) -> float:
    """Seconds until the next look. What is `free` is not taken up in less, but for the last of it."""
    return EVERY if closed else min(EVERY, max(SOONEST, free / FASTEST))


class Reserve:
    """Looks again and again; `closed` is whether messages have taken their room.

    `name` is that of our own server, `peers` gives those of all others that are there.
    """

    def __init__(self, links: Links, name: str, peers: Callable[[], Iterable[str]], log: FilteringBoundLogger) -> None:
        self._links = links
        self._name = name
        self._peers = peers
        self._log = log
        self.closed = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            wait = EVERY
            try:
                wait = await self._look()
            except BusUnavailable as error:
                self._log.debug("the room for records was not looked at", reason=error.message)
            await asyncio.sleep(wait)

    async def _look(self) -> float:
        """Look once; how many seconds until the next time."""
        info = await self._links.jetstream(f"STREAM.INFO.{STREAM}")
        match info:
            case {"config": dict(config), "state": {"messages": int(held)}, **more}:
                most = int(config.get("max_msgs", -1))
            case _:
                return EVERY
        self.closed = most > 0
        match more.get("cluster"):
            case dict(cluster) if cluster.get("leader") != self._name:
                return EVERY  # it is for the leader's node to say
        servers, all_answer = await self._stored()
        free = room(servers, int(config.get("num_replicas", 1)))
        wanted = most_messages(free, held, most, sure=all_answer)
        if wanted != most:
            await self._set(wanted)
            if self.closed != (wanted > 0):
                self._log.warning("the bus takes no messages" if wanted > 0 else "the bus takes messages", free=free)
            self.closed = wanted > 0
        return pause(free, closed=self.closed)

    async def _set(self, most: int) -> None:
        """Said anew from what the stream has now: an update names all settings, and others may have changed one."""
        match await self._links.jetstream(f"STREAM.INFO.{STREAM}"):
            case {"config": dict(config)}:
                await self._links.jetstream(f"STREAM.UPDATE.{STREAM}", {**config, "max_msgs": most})
            case _:
                raise BusUnavailable("nats-server's description of the stream is not understood")

    async def _stored(self) -> tuple[list[Stored], bool]:
        """What our own server stores, then what those of the others do that answer, and whether all did."""
        found = await asyncio.gather(self._ask(self._name), *map(self._try, self._peers()))
        servers = [one for one in found if one is not None]
        return servers, len(servers) == len(found)

    async def _try(self, name: str) -> Stored | None:
        with contextlib.suppress(BusUnavailable):
            return await self._ask(name)
        return None

    async def _ask(self, name: str) -> Stored:
        return _read(await self._links.server("PING.JSZ", {"server_name": name, "exact_match": True}))


class _Config(BaseModel):
    max_storage: int


class _JetStream(BaseModel):
    storage: int
    config: _Config


class _Answer(BaseModel):
    data: _JetStream


def _read(answer: Mapping[str, object]) -> Stored:
    try:
        found = _Answer.model_validate(answer).data
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of its store is not understood") from error
    return Stored(found.storage, found.config.max_storage)
