"""What the server really runs with, read back from it over its system account. Never repeats what it was told."""

from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from unibus.bus.links import Links
from unibus.errors import BusUnavailable


class _JetStreamConfig(BaseModel):
    sync_interval: int = 0
    sync_always: bool = False


class _JetStream(BaseModel):
    config: _JetStreamConfig | None = None


class _Variables(BaseModel):
    server_id: str
    server_name: str
    version: str
    host: str
    port: int
    connections: int = 0
    jetstream: _JetStream = _JetStream()


class _Answer(BaseModel):
    data: _Variables


@dataclass(frozen=True, slots=True)
class Posture:
    """`server` is the id of this life (`N…`); `durable` whether each write is on disk before it is acknowledged."""

    server: str
    version: str
    listen: str
    jetstream: bool
    durable: bool


async def read_posture(links: Links, node: str) -> Posture:
    """Ask the server called `node`. Raises BusUnavailable."""
    answer = await links.server("PING.VARZ", {"server_name": node, "exact_match": True})
    try:
        found = _Answer.model_validate(answer).data
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of itself is not understood") from error
    settings = found.jetstream.config
    return Posture(
        server=found.server_id,
        version=found.version,
        listen=f"[{found.host}]:{found.port}" if ":" in found.host else f"{found.host}:{found.port}",
        jetstream=settings is not None,
        durable=settings is not None and settings.sync_always,
    )
