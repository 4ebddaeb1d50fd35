"""The HTTP side of one node, wired: every operation over its services, the limits, the meters, and the listener.

Part of the one place that wires the daemon (`daemon.node`). Must never decide anything about a request.
"""

import errno
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from structlog.stdlib import BoundLogger

from unibus import __version__
from unibus.daemon.options import Options
from unibus.errors import InviteUnknown, NotAUser, StartRefused, UnibusError, reason_by_number
from unibus.http.api import Api, NatsPlace
from unibus.http.audit import AuditApi, Auditor
from unibus.http.auth import Authenticator
from unibus.http.backup import BackupApi
from unibus.http.blobs import BlobApi
from unibus.http.cluster import ClusterApi
from unibus.http.deadlines import Deadlines
from unibus.http.description import described
from unibus.http.dispatch import dispatching
from unibus.http.health import health_operations
from unibus.http.limiting import Limiter
from unibus.http.metrics import Metrics
from unibus.http.moving import MovingApi
from unibus.http.nonces import ServerNonces
from unibus.http.operations import Operation
from unibus.http.problems import answering
from unibus.http.purging import PurgeApi
from unibus.http.routing import route
from unibus.http.site import Site, telling
from unibus.services.abandoned import Abandoned
from unibus.services.audit import Audit
from unibus.services.backups import Backups
from unibus.services.blobs import Blobs
from unibus.services.books import Books
from unibus.services.claims import Claims
from unibus.services.gate import Gate
from unibus.services.membership import Membership
from unibus.services.moving import Moving
from unibus.services.nodes import Nodes
from unibus.services.reading import Reading

if TYPE_CHECKING:
    from unibus.daemon.tls import Certificates


@dataclass(frozen=True, slots=True)
class Parts:
    """What the operations call. `look` gathers the health, `hindrances` why nobody should be sent here.

    `nats` tells where the data plane listens now, `nodes` where clients reach all nodes; while this one is `draining`,
    each of its connections ends with its next answer.
    """

    options: Options
    books: Books
    claims: Claims
    gate: Gate
    reading: Reading
    membership: Membership
    blobs: Blobs
    abandoned: Abandoned
    backups: Backups
    moving: Moving
    cluster: Nodes
    audit: Audit
    metrics: Metrics
    look: Callable[[], Awaitable[dict[str, Any]]]
    hindrances: Callable[[], list[str]]
    nats: Callable[[], NatsPlace]
    nodes: Callable[[], list[str]]
    draining: Callable[[], bool]
    certificates: "Certificates | None"
    log: BoundLogger


async def serve(parts: Parts, stack: AsyncExitStack) -> int:
    """Serve until `stack` is closed; the port. Raises StartRefused when the address cannot be had."""
    limits = parts.options.limits
    limiter = Limiter(limits, time.monotonic)
    nonces = ServerNonces(secrets.token_bytes, time.monotonic)
    watchers = parts.metrics, Auditor(parts.audit), limiter
    tell = telling(nonces)
    operations = described(_operations(parts, limiter, nonces), __version__)
    deadlines = Deadlines(limits.request_seconds)
    routes = [route(operation, deadlines) for operation in operations]
    server = dispatching(routes, answering(parts.log, lambda: secrets.token_hex(8), *watchers), tell)
    runner = web.ServerRunner(server, shutdown_timeout=5.0)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    host, port = parts.options.http_host, parts.options.http_port
    try:
        context = parts.certificates.http if parts.certificates else None
        site = Site(
            *(runner, host, port),
            tell=tell,
            log=parts.log,
            limits=limits,
            charge=limiter.charge,
            tls=context,
            draining=parts.draining,
        )
        parts.metrics.watch("http_connections", "open HTTP connections", lambda: site.connections)
        await site.start()
    except OSError as error:
        why = reason_by_number(error)
        taken = "end what listens there, or " if error.errno == errno.EADDRINUSE else ""
        raise StartRefused(f"cannot listen on --http-bind {host}:{port}: {why}; {taken}name another") from error
    return int(runner.addresses[0][1])


def _operations(parts: Parts, limiter: Limiter, nonces: ServerNonces) -> list[Operation]:
    limits = parts.options.limits

    def authenticator(knows: Callable[[str], bool], stranger: type[UnibusError]) -> Authenticator:
        return Authenticator(
            parts.claims,
            nonces,
            bus_id=parts.reading.bus_id,
            is_user=knows,
            clock=time.time,
            stranger=stranger,
            body_seconds=limits.body_seconds,
            held_bodies=limits.held_bodies,
            pace=limiter.pace,
            unpace=limiter.unpace,
            floor=lambda: parts.books.floor,
        )

    users = authenticator(parts.books.directory.active, NotAUser)
    invited = authenticator(parts.reading.is_invite, InviteUnknown)
    api = Api(
        users,
        invited,
        parts.membership,
        parts.reading,
        parts.gate,
        parts.nats,
        time.time,
        limits,
        pace_append=limiter.pace_append,
        nodes=parts.nodes,
    )
    return [
        *health_operations(parts.look, parts.hindrances),
        parts.metrics.operation(),
        *api.operations(),
        *AuditApi(users, parts.gate, parts.audit, parts.options.node_name).operations(),
        *BlobApi(users, parts.blobs).operations(),
        *BackupApi(users, parts.backups).operations(),
        *PurgeApi(users, parts.abandoned).operations(),
        *MovingApi(parts.moving).operations(),
        *ClusterApi(users, parts.cluster, limits).operations(),
    ]
