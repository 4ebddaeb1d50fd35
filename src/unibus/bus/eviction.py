"""Everybody out: what is left in the members' account, and of their deliveries, from before the daemon was there.

Rights may have changed since, and nobody knows those connections' names any more. Must be through before anybody is
let in.
"""

import asyncio

from pydantic import BaseModel, ValidationError

from unibus.bus import consumers
from unibus.bus.links import Links
from unibus.errors import BusUnavailable
from unibus.model import subjects

_PAGE = 512
_AGAIN = 0.02
_DELIVERIES = "dlv."


class _Connection(BaseModel):
    cid: int


class _Connections(BaseModel):
    connections: list[_Connection] = []


class _Answer(BaseModel):
    data: _Connections


async def send_away(links: Links, server: str, account: str) -> int:
    """End all connections in `account` at the server with the id `server`; how many. Raises BusUnavailable."""
    gone: set[int] = set()
    while found := await _connected(links, server, account):
        await links.kick(server, found)
        gone.update(found)
        await asyncio.sleep(_AGAIN)  # it closes them after it has answered
    return len(gone)


async def end_deliveries(links: Links) -> None:
    """End all deliveries, whoever's they were. Raises BusUnavailable."""
    if await links.jetstream(f"STREAM.INFO.{subjects.STREAM}") is None:
        return  # and so there are none yet
    found, _ = await consumers.consumers(links)
    fed = [one.name for one in found if one.config.deliver_subject.startswith(_DELIVERIES)]
    await consumers.end_deliveries(links, fed)


async def _connected(links: Links, server: str, account: str) -> list[int]:
    try:
        answer = _Answer.model_validate(await links.server(f"{server}.CONNZ", {"acc": account, "limit": _PAGE}))
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of its connections is not understood") from error
    return [connection.cid for connection in answer.data.connections]
