"""Everybody out: what is left in the members' account, and of their deliveries, from before the daemon was there.

Rights may have changed since, and nobody knows those connections' names any more. Must be through before anybody is
let in.
"""

import asyncio

from pydantic import BaseModel, ValidationError

from unibus.bus.links import Links
from unibus.errors import BusUnavailable
from unibus.model import subjects

_PAGE = 512
_AT_ONCE = 32
_AGAIN = 0.02
_DELIVERIES = "dlv."


class _Connection(BaseModel):
    cid: int


class _Connections(BaseModel):
    connections: list[_Connection] = []


class _Answer(BaseModel):
    data: _Connections


class _Settings(BaseModel):
    deliver_subject: str = ""


class _Consumer(BaseModel):
    name: str
    config: _Settings


class _Consumers(BaseModel):
    consumers: list[_Consumer] | None = None
    total: int = 0


async def send_away(links: Links, server: str, account: str) -> int:
    """End all connections in `account` at the server with the id `server`; how many. Raises BusUnavailable."""
    gone: set[int] = set()
    while found := await _connected(links, server, account):
        for start in range(0, len(found), _AT_ONCE):
            kicks = (links.server(f"{server}.KICK", {"cid": cid}) for cid in found[start : start + _AT_ONCE])
            await asyncio.gather(*kicks)
        gone.update(found)
        await asyncio.sleep(_AGAIN)  # it closes them after it has answered
    return len(gone)


async def end_deliveries(links: Links) -> None:
    """End all deliveries, whoever's they were. Raises BusUnavailable."""
    for name in await _deliveries(links):
        await links.jetstream(f"CONSUMER.DELETE.{subjects.STREAM}.{name}")


async def _connected(links: Links, server: str, account: str) -> list[int]:
    try:
        answer = _Answer.model_validate(await links.server(f"{server}.CONNZ", {"acc": account, "limit": _PAGE}))
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of its connections is not understood") from error
    return [connection.cid for connection in answer.data.connections]


async def _deliveries(links: Links) -> list[str]:
    names: list[str] = []
    offset, total = 0, 1
    while offset < total:
        told = await links.jetstream(f"CONSUMER.LIST.{subjects.STREAM}", {"offset": offset})
        if told is None:
            return []  # there is no stream yet
        try:
            page = _Consumers.model_validate(told)
        except ValidationError as error:
            raise BusUnavailable("nats-server's list of consumers is not understood") from error
        found = page.consumers or []
        names += [one.name for one in found if one.config.deliver_subject.startswith(_DELIVERIES)]
        offset, total = offset + len(found), page.total if found else 0
    return names
