"""Looks at what nats-server has counted of each member, and cuts off who sent too much (`pace`).

Asks only for connections that did something since the last look, so that thousands of silent ones cost nothing.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ValidationError
from structlog.typing import FilteringBoundLogger

from unibus.bus.links import Links
from unibus.bus.pace import Pace, Received
from unibus.bus.registry import Registry
from unibus.errors import BusUnavailable

LOOK_EVERY = 1.0
_PAGE = 512
_LATE = timedelta(seconds=10)
"""By so much nats-server may note a connection's activity later than what it sent."""


class _Connection(BaseModel):
    cid: int
    in_msgs: int
    in_bytes: int
    last_activity: datetime


class _Connections(BaseModel):
    now: datetime
    connections: list[_Connection] = []


class _Answer(BaseModel):
    data: _Connections


class _Sent(BaseModel):
    msgs: int = 0
    bytes: int = 0


class _Left(BaseModel):
    sent: _Sent = _Sent()


async def watch_pace(
    links: Links,
    server: str,
    account: str,
    registry: Registry,
    pace: Pace,
    clock: Callable[[], float],
    log: FilteringBoundLogger,
    cut_off: Callable[[str], None],
) -> None:
    """Look again and again at the members in `account` of the server with the id `server`, until cancelled.

    `cut_off` hears of each user that is; `clock` never goes back.
    """
    looked = datetime.min.replace(tzinfo=UTC) + _LATE
    while True:
        await asyncio.sleep(LOOK_EVERY)
        try:
            found: list[_Connection] = []
            if registry:  # else nobody is connected, and asking each second would be most of what an idle node does
                found, looked = await _active(links, server, account, looked - _LATE)
            now = clock()
            for one in found:
                if user := registry.user_of(one.cid):  # one that is gone was counted when it went
                    pace.count(one.cid, user, Received(one.in_msgs, one.in_bytes), now)
            for user in pace.too_fast(now):
                pace.keep_out(user, now)
                log.warning("a member sent too much and is kept out for a while", user=user)
                cut_off(user)
                await links.kick(server, registry.revoke(user))
        except BusUnavailable:
            continue  # what it means that nats-server does not answer is for others to say


def sent_by(event: object) -> Received:
    """What a connection has sent, by nats-server's advisory of its end."""
    left = _Left.model_validate(event).sent
    return Received(left.msgs, left.bytes)


async def _active(links: Links, server: str, account: str, since: datetime) -> tuple[list[_Connection], datetime]:
    """The connections that were active after `since`, and some more; the server's time when it began to say so."""
    found: list[_Connection] = []
    began: datetime | None = None
    while True:
        asked = {"acc": account, "sort": "last", "limit": _PAGE, "offset": len(found)}
        try:
            page = _Answer.model_validate(await links.server(f"{server}.CONNZ", asked)).data
        except ValidationError as error:
            raise BusUnavailable("nats-server's description of its connections is not understood") from error
        began = began or page.now
        found += page.connections  # the last active come first
        if len(page.connections) < _PAGE or page.connections[-1].last_activity < since:
            return found, began
