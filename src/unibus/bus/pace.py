"""Members who send more than a bus can be meant for: noticed by nats-server's counts, cut off, kept out for a while.

A client of ours waits for acknowledgements and never comes near. nats-server itself sets no pace, and all that is
stored goes through one queue, in which everybody else then waits. Must never look into a message.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ValidationError
from structlog.typing import FilteringBoundLogger

from unibus.bus.links import Links
from unibus.bus.registry import Registry
from unibus.errors import BusUnavailable

LOOK_EVERY = 1.0
FASTEST = 10_000
"""Messages a second of one user, over the time between two looks."""
KEPT_OUT = 10.0
"""Seconds that its user is then kept out."""
_LAST_ACTIVE = 256
"""Whoever sends that much is among those that sent last, sooner or later."""


class _Connection(BaseModel):
    cid: int
    in_msgs: int
    start: datetime


class _Connections(BaseModel):
    now: datetime
    connections: list[_Connection] = []


class _Answer(BaseModel):
    data: _Connections


@dataclass(frozen=True, slots=True)
class Count:
    """How many messages a connection has sent in its `age` in seconds."""

    messages: int
    age: float


class Pace:
    """What was counted, and who is kept out. Pure state; times are in seconds of one clock."""

    def __init__(self, fastest: int = FASTEST) -> None:
        self._fastest = fastest
        self._counted: Mapping[int, Count] = {}
        self._until: dict[str, float] = {}

    def too_fast(self, counts: Mapping[int, Count], owner: Callable[[int], str]) -> list[str]:
        """The users whose connections, taken together, sent too much since they were counted last.

        One that was not counted is taken by all its age. `owner` is the user of a connection.
        """
        before, self._counted = self._counted, counts
        rates: Counter[str] = Counter()
        for cid, count in counts.items():
            last = before.get(cid, Count(0, 0.0))
            rates[owner(cid)] += int((count.messages - last.messages) / max(LOOK_EVERY, count.age - last.age))
        return [user for user, rate in rates.items() if rate > self._fastest]

    def keep_out(self, user: str, now: float) -> None:
        """Not to be let in for a while."""
        self._until = {one: until for one, until in self._until.items() if until > now}
        self._until[user] = now + KEPT_OUT

    def kept_out(self, user: str, now: float) -> bool:
        """Whether that holds now."""
        return self._until.get(user, now) > now


async def watch_pace(
    links: Links, server: str, account: str, registry: Registry, pace: Pace, log: FilteringBoundLogger
) -> None:
    """Look again and again at the members in `account` of the server with the id `server`, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(LOOK_EVERY)
        try:
            for user in pace.too_fast(await _counts(links, server, account), registry.user_of):
                pace.keep_out(user, loop.time())
                log.warning("a member sent too much and is kept out for a while", user=user)
                for cid in registry.revoke(user):
                    await links.server(f"{server}.KICK", {"cid": cid})
        except BusUnavailable:
            continue  # what it means that nats-server does not answer is for others to say


async def _counts(links: Links, server: str, account: str) -> Mapping[int, Count]:
    asked = {"acc": account, "sort": "last", "limit": _LAST_ACTIVE}
    try:
        found = _Answer.model_validate(await links.server(f"{server}.CONNZ", asked)).data
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of its connections is not understood") from error
    return {one.cid: Count(one.in_msgs, (found.now - one.start).total_seconds()) for one in found.connections}
