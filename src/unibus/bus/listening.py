"""For `warn` mode: looks at what connections subscribe to and logs the subjects that `enforce` would have refused.

nats-server does not tell of a subscription when it is made, so it is asked now and then; each finding is logged once.
Runs only in that mode. Must never change anything.
"""

import asyncio

from pydantic import BaseModel, ValidationError
from structlog.typing import FilteringBoundLogger

from unibus.bus.config import MEMBERS
from unibus.bus.links import Links
from unibus.bus.permissions import permissions
from unibus.bus.registry import Registry
from unibus.errors import BusUnavailable, UnibusError
from unibus.services.ports import BusPolicy

EVERY = 2.0  # seconds
PAGE = 256


class _Connection(BaseModel):
    cid: int
    subscriptions_list: list[str] = []


class _Connections(BaseModel):
    total: int
    connections: list[_Connection] = []


class _Answer(BaseModel):
    data: _Connections


def covers(allowed: str, wanted: str) -> bool:
    """Whether everything that the subject `wanted` matches is matched by `allowed` too (NATS wildcards `*` and `>`)."""
    have, want = allowed.split("."), wanted.split(".")
    for index, part in enumerate(have):
        if part == ">":
            return len(want) > index
        if index >= len(want) or want[index] == ">" or part not in {"*", want[index]}:
            return False
    return len(have) == len(want)


async def watch_subscriptions(
    links: Links, server: str, registry: Registry, policy: BusPolicy, log: FilteringBoundLogger
) -> None:
    """Look again and again, until cancelled. `server` is the id (`N…`) of the one to ask."""
    told: set[tuple[int, str]] = set()
    while True:
        try:
            found = await _connections(links, server)
        except BusUnavailable:
            found = []  # what it means that nats-server does not answer is for others to say
        for connection in found:
            known = registry.known(connection.cid)
            if known is None:
                continue
            for subject in await _refused(known.user, connection.subscriptions_list, policy):
                if (connection.cid, subject) not in told:
                    log.warning("enforce would refuse this subscription", user=known.user, subject=subject)
        told = {(connection.cid, subject) for connection in found for subject in connection.subscriptions_list}
        await asyncio.sleep(EVERY)


async def _refused(user: str, subscribed: list[str], policy: BusPolicy) -> list[str]:
    try:
        allowed = permissions(await policy.admit(user, None)).subscribe
    except UnibusError:
        return []  # the connection itself would be refused, and that was logged
    return [subject for subject in subscribed if not any(covers(one, subject) for one in allowed)]


async def _connections(links: Links, server: str) -> list[_Connection]:
    found: list[_Connection] = []
    while True:
        page = {"acc": MEMBERS, "subscriptions": True, "limit": PAGE, "offset": len(found)}
        try:
            answer = _Answer.model_validate(await links.server(f"{server}.CONNZ", page)).data
        except ValidationError as error:
            raise BusUnavailable("nats-server's description of its connections is not understood") from error
        found += answer.connections
        if not answer.connections or len(found) >= answer.total:
            return found
