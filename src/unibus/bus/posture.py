"""What the server really runs with, read back from it over its system account. Never repeats what it was told."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ValidationError

from unibus.bus.links import Links
from unibus.errors import BusUnavailable


class _JetStreamConfig(BaseModel):
    sync_interval: int = 0
    sync_always: bool = False


class _JetStream(BaseModel):
    config: _JetStreamConfig | None = None


class _WebSocket(BaseModel):
    host: str = ""
    port: int = 0
    no_tls: bool = False


class _Variables(BaseModel):
    server_id: str
    version: str
    host: str
    port: int
    connections: int = 0
    jetstream: _JetStream = _JetStream()
    tls_required: bool = False
    tls_cert_not_after: datetime | None = None
    websocket: _WebSocket = _WebSocket()


class _Answer(BaseModel):
    data: _Variables


@dataclass(frozen=True, slots=True)
class Posture:
    """`server` is the id of this life (`N…`); `durable` whether each write is on disk before it is acknowledged,
    because `sync_interval` is `always` and no number of seconds.

    `tls` is whether it is required; `tls_until` the end of the certificate's validity in Unix seconds, None without TLS
    and from servers that do not tell; `websocket` a URL or None.
    """

    server: str
    version: str
    listen: str
    jetstream: bool
    durable: bool
    sync_interval: str | None
    tls: bool
    tls_until: float | None
    websocket: str | None


async def read_posture(links: Links, node: str) -> Posture:
    """Ask the server called `node`. Raises BusUnavailable."""
    answer = await links.server("PING.VARZ", {"server_name": node, "exact_match": True})
    try:
        found = _Answer.model_validate(answer).data
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of itself is not understood") from error
    settings, web = found.jetstream.config, found.websocket
    return Posture(
        server=found.server_id,
        version=found.version,
        listen=_address(found.host, found.port),
        jetstream=settings is not None,
        durable=settings is not None and settings.sync_always,
        sync_interval=_sync(settings) if settings is not None else None,
        tls=found.tls_required,
        tls_until=found.tls_cert_not_after.timestamp() if found.tls_cert_not_after else None,
        websocket=f"{'ws' if web.no_tls else 'wss'}://{_address(web.host, web.port)}" if web.port else None,
    )


def _sync(settings: _JetStreamConfig) -> str:
    return "always" if settings.sync_always else f"{settings.sync_interval / 1e9:g}s"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
