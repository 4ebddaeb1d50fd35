"""What the server really runs with, read back from it over its system account. Never repeats what it was told."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ValidationError

from unibus.bus.links import Links
from unibus.bus.room_on_disk import meant
from unibus.errors import BusUnavailable


class _JetStreamConfig(BaseModel):
    sync_interval: int = 0
    sync_always: bool = False
    max_storage: int = 0


class _JetStreamStats(BaseModel):
    storage: int = 0


class _Meta(BaseModel):
    leader: str = ""
    cluster_size: int = 0
    quorum_needed: int = 0


class _JetStream(BaseModel):
    config: _JetStreamConfig | None = None
    stats: _JetStreamStats = _JetStreamStats()
    meta: _Meta = _Meta()


class _Cluster(BaseModel):
    name: str = ""
    tls_required: bool = False
    tls_verify: bool = False
    tls_cert_not_after: datetime | None = None


class _WebSocket(BaseModel):
    host: str = ""
    port: int = 0
    no_tls: bool = False


class _Variables(BaseModel):
    server_id: str
    version: str
    host: str
    port: int
    config_digest: str = ""
    config_load_time: str = ""
    cluster: _Cluster = _Cluster()
    jetstream: _JetStream = _JetStream()
    tls_required: bool = False
    tls_cert_not_after: datetime | None = None
    websocket: _WebSocket = _WebSocket()


class _Answer(BaseModel):
    data: _Variables


@dataclass(frozen=True, slots=True)
class Routes:
    """The server's part in a cluster. `tls` is whether peers need certificates; `tls_until` as in `Posture`.

    JetStream counts `size` servers, of which `needed` must agree, under `leader`, None while there is none.
    """

    cluster: str
    tls: bool
    tls_until: float | None
    size: int
    needed: int
    leader: str | None


@dataclass(frozen=True, slots=True)
class Posture:
    """`server` is the id of this life (`N…`); `durable` whether each write is on disk before it is acknowledged,
    because `sync_interval` is `always` and no number of seconds. It keeps `stored` bytes, and `most_stored` at most.

    `tls` is whether it is required; `tls_until` the end of the certificate's validity in Unix seconds, None without TLS
    and from servers that do not tell; `websocket` a URL or None. `digest` is that of the configuration it took in,
    `loaded` when it did, `routes` None outside of a cluster.
    """

    server: str
    version: str
    listen: str
    jetstream: bool
    durable: bool
    sync_interval: str | None
    stored: int
    most_stored: int
    tls: bool
    tls_until: float | None
    websocket: str | None
    digest: str
    loaded: str
    routes: Routes | None


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
        stored=found.jetstream.stats.storage,
        most_stored=meant(settings.max_storage) if settings is not None else 0,
        tls=found.tls_required,
        tls_until=_end(found.tls_cert_not_after),
        websocket=f"{'ws' if web.no_tls else 'wss'}://{_address(web.host, web.port)}" if web.port else None,
        digest=found.config_digest,
        loaded=found.config_load_time,
        routes=_routes(found.cluster, found.jetstream.meta) if found.cluster.name else None,
    )


async def leading(links: Links, node: str) -> str:
    """Who leads the cluster, as the server called `node` knows. Raises BusUnavailable, also when nobody does."""
    routes = (await read_posture(links, node)).routes
    if routes is None or routes.leader is None:
        raise BusUnavailable("the cluster is choosing a leader")
    return routes.leader


def _routes(cluster: _Cluster, meta: _Meta) -> Routes:
    return Routes(
        cluster=cluster.name,
        tls=cluster.tls_required and cluster.tls_verify,
        tls_until=_end(cluster.tls_cert_not_after),
        size=meta.cluster_size,
        needed=meta.quorum_needed,
        leader=meta.leader or None,
    )


def _end(moment: datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def _sync(settings: _JetStreamConfig) -> str:
    return "always" if settings.sync_always else f"{settings.sync_interval / 1e9:g}s"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
