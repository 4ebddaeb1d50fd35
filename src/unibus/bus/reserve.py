"""Room that messages and blobs must leave: records lie on the same disks, and a revocation must find some.

What all that is stored may come to, less what is kept for records, less what records and blobs take already, is the
share of the messages' stream (`max_bytes`). nats-server itself holds it to that, however fast messages come, and with
"discard new" nothing is dropped by it. It takes that setting for room that is taken, and changes no stream any more
once its own limit is below that: so its own limit is out of reach (`room_on_disk`), and is nowhere relied on. Must
never drop a message, nor change another setting.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError
from structlog.typing import FilteringBoundLogger

from unibus.bus.links import Links
from unibus.bus.room_on_disk import meant
from unibus.errors import BusUnavailable
from unibus.model.subjects import STREAM

TAKEN = "messages and blobs have taken their room, and the rest is for records: let rooms keep less, or raise the limit"
KEPT = 10
"""One part in so many of what a server may store is for records alone."""
LEAST = 64 << 20
STEP = 1 << 20
"""Bytes by which the share has to change before the stream is told."""
LAST = 2 << 20
"""Bytes left of the share that are as good as none: a large message, and what is stored about it."""
AGAIN = 8 << 20
"""Bytes that have to be left before it no longer counts as taken, lest it goes to and fro."""
EVERY = 1.0
"""Seconds between two looks."""
_ACCOUNT = "CORE"


@dataclass(frozen=True, slots=True)
class Stored:
    """What a server stores besides messages, and may store in all, in bytes."""

    others: int
    most: int

    @property
    def kept(self) -> int:
        """What of it is for records."""
        return min(max(self.most // KEPT, LEAST), self.most // 2)


def share(servers: Sequence[Stored], replicas: int) -> int:
    """How many bytes messages may come to; below 0 when records and blobs have taken even what is kept.

    On a majority of the `servers`, so that one whose disk is full stops nobody; with one of `replicas`, on the first.
    """
    each = [one.most - one.kept - one.others for one in servers]
    return each[0] if replicas == 1 else sorted(each)[(len(each) - 1) // 2]


def is_sure(answered: int, asked: int, replicas: int) -> bool:
    """Whether the share may grow by what `answered` servers store, of `asked`, for a stream of `replicas`.

    After a restart of all, who leads knows of few others yet, and of none may be who has less room.
    """
    return answered == asked and answered > replicas // 2


def most_bytes(room: int, most: int, *, sure: bool) -> int:
    """What to tell a stream whose share is `room`, and that may hold `most` bytes now, -1 for any number.

    It gets more only when that is `sure` (`is_sure`), and at least 1, because 0 would mean any number.
    """
    room = max(room, 1)
    if most <= 0:
        return room
    return room if (sure or room < most) and abs(room - most) >= STEP else most


def is_taken(left: int, *, before: bool) -> bool:
    """Whether `left` bytes of the share are as good as none; `before` is whether they were at the last look."""
    return left < (AGAIN if before else LAST)


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
            try:
                await self._look()
            except BusUnavailable as error:
                self._log.debug("the room for records was not looked at", reason=error.message)
            await asyncio.sleep(EVERY)

    async def _look(self) -> None:
        info = await self._links.jetstream(f"STREAM.INFO.{STREAM}")
        match info:
            case {"config": dict(config), "state": {"bytes": int(held)}, **more}:
                most = int(config.get("max_bytes", -1))
            case _:
                return
        cluster = more.get("cluster")
        try:
            if not isinstance(cluster, dict) or cluster.get("leader") == self._name:  # else another node says
                most = await self._give(config, most)
        finally:  # what it holds counts also while it takes no change
            self._note(most, held)

    def _note(self, most: int, held: int) -> None:
        before, self.closed = self.closed, most > 0 and is_taken(most - held, before=self.closed)
        if self.closed != before:
            self._log.warning(
                "messages have taken their room" if self.closed else "messages have room", left=most - held
            )

    async def _give(self, config: Mapping[str, object], most: int) -> int:
        """Have the stream hold as much as it may, if that is not `most`; what it may hold now."""
        servers, asked = await self._stored()
        replicas = int(str(config.get("num_replicas", 1)))
        wanted = most_bytes(share(servers, replicas), most, sure=is_sure(len(servers), asked, replicas))
        if wanted != most or config.get("max_msgs", -1) != -1:  # by which older nodes close it
            await self._set(wanted)
        return wanted

    async def _set(self, most: int) -> None:
        """Said anew from what the stream has now: an update names all settings, and others may have changed one."""
        match await self._links.jetstream(f"STREAM.INFO.{STREAM}"):
            case {"config": dict(config)}:
                changed = {**config, "max_bytes": most, "max_msgs": -1}
                await self._links.jetstream(f"STREAM.UPDATE.{STREAM}", changed)
            case _:
                raise BusUnavailable("nats-server's description of the stream is not understood")

    async def _stored(self) -> tuple[list[Stored], int]:
        """What our own server stores, then what those of the others do that answer, and how many were asked."""
        found = await asyncio.gather(self._ask(self._name), *map(self._try, self._peers()))
        return [one for one in found if one is not None], len(found)

    async def _try(self, name: str) -> Stored | None:
        with contextlib.suppress(BusUnavailable):
            return await self._ask(name)
        return None

    async def _ask(self, name: str) -> Stored:
        request = {"server_name": name, "exact_match": True, "account": _ACCOUNT, "streams": True}
        return _read(await self._links.server("PING.JSZ", request))


class _Config(BaseModel):
    max_storage: int


class _State(BaseModel):
    bytes: int


class _Stream(BaseModel):
    name: str
    state: _State


class _Account(BaseModel):
    stream_detail: list[_Stream] = []


class _JetStream(BaseModel):
    config: _Config
    account_details: list[_Account] = []


class _Answer(BaseModel):
    data: _JetStream


def _read(answer: Mapping[str, object]) -> Stored:
    try:
        found = _Answer.model_validate(answer).data
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of its store is not understood") from error
    streams = [stream for account in found.account_details for stream in account.stream_detail]
    others = sum(stream.state.bytes for stream in streams if stream.name != STREAM)
    return Stored(others, meant(found.config.max_storage))
