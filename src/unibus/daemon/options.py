"""What `unibus-membershipd` is told: flags, or `UNIBUS_…` variables. The one place that reads the environment.

An option whose engine is not there is refused by name, never accepted and ignored.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from unibus.daemon import cluster_options, limit_options, nats_options
from unibus.daemon.cluster_options import ClusterOptions
from unibus.daemon.nats_options import NatsLimits, NatsUrl
from unibus.daemon.tls_files import TlsFiles
from unibus.errors import InvalidInput, StartRefused
from unibus.http.limits import Limits
from unibus.model.sizes import parse_size
from unibus.services.abandoned import GRACE
from unibus.services.blob_quota import BlobLimits

ABANDONED_DAYS = int(GRACE // 86400)
BLOB_MAX, BLOB_QUOTA_USER, BLOB_QUOTA_TOTAL = "10G", "10G", "100G"
_NODE = re.compile(r"[a-z][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Options:
    """The daemon's settings, checked."""

    http_host: str
    http_port: int
    nats_host: str
    nats_port: int
    data_dir: Path
    bus_auth: str
    nats_server: Path | None
    node_name: str
    blobs: BlobLimits = field(default_factory=BlobLimits)
    limits: Limits = field(default_factory=Limits)
    tls: TlsFiles | None = None
    ws_bind: tuple[str, int] | None = None
    nats_url: NatsUrl | None = None
    nats_limits: NatsLimits = field(default_factory=NatsLimits)
    store: str = "sqlite"
    replicas: int = 1
    cluster: ClusterOptions | None = None
    public_url: str | None = None
    abandoned_seconds: float = GRACE
    nats_operators: tuple[str, ...] = ()


def service_manager() -> dict[str, str]:
    """What a service manager has told this process about itself, by the names of sd_notify(3)."""
    names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    return {name: os.environ[name] for name in names if name in os.environ}


def _size(text: str, flag: str) -> int:
    try:
        return parse_size(text)
    except InvalidInput as error:
        raise StartRefused(f"{flag}: {error.message}") from error


def check_node_name(name: str) -> str:
    """`name` if it can name a node. Raises StartRefused."""
    if not _NODE.fullmatch(name):
        raise StartRefused(f"--node-name takes 1 to 63 of a-z 0-9 - and begins with a letter, not {name!r}")
    return name


def parse_bind(text: str, flag: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; an IPv6 host stands in brackets; port 0 takes a free one. Raises StartRefused."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise StartRefused(f"{flag} takes HOST:PORT, such as 0.0.0.0:8470, not {text!r}")
    return host, int(port)


def check(
    *,
    http_bind: str,
    nats_bind: str,
    data_dir: Path,
    bus_auth: str,
    store: str,
    nats_url: str | None,
    nats_server: Path | None,
    node_name: str,
    blob_max: str = BLOB_MAX,
    blob_quota_user: str = BLOB_QUOTA_USER,
    blob_quota_total: str = BLOB_QUOTA_TOTAL,
    abandoned_days: int = ABANDONED_DAYS,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    tls_ca: Path | None = None,
    nats_ws_bind: str | None = None,
    nats_ca: Path | None = None,
    max_nats_connections: int = nats_options.CONNECTIONS,
    nats_max_store: str | None = None,
    nats_operators: Sequence[str] = (),
    kv_replicas: int | None = None,
    cluster_name: str | None = None,
    cluster_bind: str | None = None,
    routes: str | None = None,
    route_tls_cert: Path | None = None,
    route_tls_key: Path | None = None,
    route_tls_ca: Path | None = None,
    cluster_pass_file: Path | None = None,
    cluster_pass: cluster_options.Typed | None = None,
    public_url: str | None = None,
    **limits: Any,
) -> Options:
    """The options behind the flags, `limits` among them. Raises StartRefused, naming what to change."""
    http_host, http_port = parse_bind(http_bind, "--http-bind")
    nats_host, nats_port = parse_bind(nats_bind, "--nats-bind")
    external = None
    if nats_url is not None:
        own = {
            "--nats-bind": nats_bind if nats_bind != nats_options.BIND else None,
            "--nats-server": nats_server,
            "--nats-ws-bind": nats_ws_bind,
            "--max-nats-connections": max_nats_connections
            if max_nats_connections != nats_options.CONNECTIONS
            else None,
            "--nats-max-store": nats_max_store,
            "--nats-operator": nats_operators or None,
        }
        nats_options.refuse_beside_url(own)
        external = nats_options.parse_url(nats_url, nats_ca)
        nats_host, nats_port = external.host, external.port
    elif nats_ca is not None:
        raise StartRefused("--nats-ca is for --nats-url")
    blobs = BlobLimits(
        blob=_size(blob_max, "--blob-max"),
        user=_size(blob_quota_user, "--blob-quota-user"),
        total=_size(blob_quota_total, "--blob-quota-total"),
    )
    given = cluster_options.Given(
        name=cluster_name,
        bind=cluster_bind,
        routes=routes,
        certificate=route_tls_cert,
        key=route_tls_key,
        authorities=route_tls_ca,
        secret_file=cluster_pass_file,
        secret=cluster_pass,
    )
    cluster = cluster_options.read(given, node=node_name, bus_auth=bus_auth, store=store, external=nats_url is not None)
    return Options(
        http_host,
        http_port,
        nats_host,
        nats_port,
        data_dir,
        bus_auth,
        nats_server,
        check_node_name(node_name),
        blobs,
        limit_options.limits(limits),
        _tls(tls_cert, tls_key, tls_ca),
        parse_bind(nats_ws_bind, "--nats-ws-bind") if nats_ws_bind else None,
        external,
        nats_options.nats_limits(max_nats_connections, nats_max_store),
        store,
        cluster_options.replicas(kv_replicas, store=store, clustered=cluster is not None),
        cluster,
        cluster_options.public_url(public_url, clustered=cluster is not None),
        abandoned_days * 86400.0,
        nats_options.operators(nats_operators),
    )


def _tls(chain: Path | None, key: Path | None, authorities: Path | None) -> TlsFiles | None:
    if chain is not None and key is not None:
        return TlsFiles(chain, key, authorities)
    if chain is not None or key is not None:
        raise StartRefused("--tls-cert and --tls-key go together: name both")
    if authorities is not None:
        raise StartRefused("--tls-ca asks clients for certificates over TLS: name --tls-cert and --tls-key too")
    return None


def flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """The daemon's flags on a click command; click reads the variables."""
    for option in reversed(
        (
            click.option(
                "--http-bind", default="0.0.0.0:8470", metavar="HOST:PORT", help="where the HTTP control plane listens"
            ),
            click.option(
                "--nats-bind", default=nats_options.BIND, metavar="HOST:PORT", help="where the NATS data plane listens"
            ),
            click.option(
                "--data-dir",
                default="local_files",
                type=click.Path(path_type=Path, file_okay=False),
                help="all state; one daemon at a time",
            ),
            click.option(
                "--bus-auth",
                default="enforce",
                type=click.Choice(["off", "warn", "enforce"]),
                help="enforce: only users, only their rooms; warn: lets through and logs what enforce would refuse; "
                "off: lets everybody in",
            ),
            click.option(
                "--store", default="sqlite", type=click.Choice(["sqlite", "kv"]), help="where records are kept"
            ),
            *cluster_options.FLAGS,
            *nats_options.FLAGS,
            click.option(
                "--nats-server",
                type=click.Path(path_type=Path),
                help="another nats-server binary than the one installed with unibus",
            ),
            click.option("--node-name", default="unibus", help="this node's name, shown in /healthz"),
            click.option(
                "--tls-cert", type=click.Path(path_type=Path), help="certificate chain in pem: TLS on all listeners"
            ),
            click.option("--tls-key", type=click.Path(path_type=Path), help="its private key, for your eyes only"),
            click.option(
                "--tls-ca",
                type=click.Path(path_type=Path),
                help="authorities in pem: all clients then need a certificate of theirs",
            ),
            click.option(
                "--nats-ws-bind", metavar="HOST:PORT", help="NATS over WebSockets too, for browsers and firewalls"
            ),
            click.option("--blob-max", default=BLOB_MAX, metavar="SIZE", help="the largest blob; K, M, G, T are 1024s"),
            click.option("--blob-quota-user", default=BLOB_QUOTA_USER, metavar="SIZE", help="all blobs of one user"),
            click.option("--blob-quota-total", default=BLOB_QUOTA_TOTAL, metavar="SIZE", help="all blobs"),
            click.option(
                "--abandoned-days",
                default=ABANDONED_DAYS,
                type=click.IntRange(min=0),
                help="days that messages and blobs of a room stay when none of its members is on the bus any more",
            ),
            *limit_options.FLAGS,
        )
    ):
        command = option(command)
    return command
