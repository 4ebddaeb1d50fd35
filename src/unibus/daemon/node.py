"""One node: the one place where store, services, bus and HTTP are wired. The end-to-end tests start it too.

Starts from the inside out and stops from the outside in, so that nothing is asked of a part that is not up.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import structlog

from unibus import __version__
from unibus.bus.fellows import Fellows
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.daemon.bus_side import BusTrail, bus_options, nats_place
from unibus.daemon.data_dir import BACKUP, MOVING, DataDir
from unibus.daemon.engines import open_engine
from unibus.daemon.gauges import gauges
from unibus.daemon.joining import Joining
from unibus.daemon.options import Options
from unibus.daemon.serving import Parts, serve
from unibus.errors import BusUnavailable, StartRefused, StorageUnavailable
from unibus.http.health import health, unready
from unibus.http.metrics import Metrics
from unibus.model.records import DIRECTORY
from unibus.services.abandoned import Abandoned
from unibus.services.audit import Audit
from unibus.services.backups import Backups
from unibus.services.blobs import Blobs
from unibus.services.books import Books
from unibus.services.claims import Claims
from unibus.services.followed import Followed
from unibus.services.following import Following
from unibus.services.gate import Gate
from unibus.services.membership import Membership
from unibus.services.moving import Moving
from unibus.services.nodes import Nodes
from unibus.services.reading import Reading
from unibus.services.restores import floor
from unibus.services.upkeep import (
    drop_old_messages,
    forget_claims,
    free_abandoned,
    measure,
    recount_blobs,
    sweep_blobs,
    sweep_parts,
    watch_loop,
)
from unibus.store.port import Store
from unibus.tasks import end_tasks

if TYPE_CHECKING:
    from nats.aio.client import Client

    from unibus.daemon.route_tls import RouteCertificates
    from unibus.daemon.tls import Certificates
    from unibus.store.kv import KvStore

log = structlog.get_logger("unibus.node")

DRAINING = 1.5
"""Seconds that a node of a cluster serves on after it was told to end: each second it gives the others a sign."""


class Node:
    """A running node while entered. Raises StartRefused when it cannot start."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._certificates: Certificates | None = None
        self._routes: RouteCertificates | None = None
        self._joining = Joining(options, log)
        self._started = time.monotonic()
        self._bus_begun = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with an exception when a part that must not end has ended; the process should then end too."""

    async def __aenter__(self) -> Self:
        options = self._options
        for warning in options.cluster.warnings if options.cluster is not None else ():
            log.warning(warning)
        async with AsyncExitStack() as stack:
            self._enter_certificates(stack)
            self.data_dir = stack.enter_context(DataDir(options.data_dir))
            self._engine = await open_engine(
                options,
                stack,
                log,
                dial=self._dial,
                beat=self._joining.beat,
                durable=self._bus_is_durable,
                full=self._no_more,
            )
            self.store: Store = self._engine.store
            self.books = Books(self.store)
            self.audit = Audit(self.store, options.node_name, time.time)
            stack.push_async_callback(self.audit.close)
            gate = Gate(self.books, self.store)
            self.metrics = Metrics(gauges(self.books.directory, lambda: self.bus.status()))  # noqa: PLW0108 - there is no bus yet
            self._followed = Followed(self.store)
            self.blobs = Blobs(self.books, gate, self._engine.blobs, self.audit, time.time, options.blobs)
            if self._engine.kv is None:
                await self._take_up_alone()
            trail = BusTrail(self.audit, self.metrics, self.books, options.bus_auth)
            self.bus = BusPlane(
                self._bus_options(),
                gate,
                log,
                decided=trail.decided,
                undelivered=trail.undelivered,
                scaled=trail.scaled,
                current=self.store.current,
                cut_off=trail.cut_off,
                fellows=self._fellows(),
            )
            self.abandoned = Abandoned(
                *(self.books, gate, self.store, self.blobs, self.bus, self.audit, time.time),
                grace=options.abandoned_seconds,
            )
            self._bus_begun.set()
            await self.bus.start()
            stack.push_async_callback(self.bus.stop)
            self.bus.failed.add_done_callback(self._part_failed)
            membership = Membership(
                self.books,
                self.store,
                self.bus,
                time.time,
                audit=self.audit,
                bootstrap=self._bootstrap,
                founded=self.data_dir.spend_token,
            )
            stack.push_async_callback(membership.close)
            backups = Backups(
                books=self.books,
                gate=gate,
                store=self.store,
                blobs=self._engine.blobs,
                messages=self.bus,
                audit=self.audit,
                clock=time.time,
                node=options.node_name,
                work=options.data_dir / BACKUP,
            )
            moving = Moving(
                books=self.books,
                store=self.store,
                blobs=self._engine.blobs,
                messages=self.bus,
                audit=self.audit,
                bootstrap=self._bootstrap,
                clock=time.time,
                work=options.data_dir / MOVING,
                shared=self._engine.kv is not None,
            )
            stack.push_async_callback(self._end_tasks)  # from here on there are some, also when what follows fails
            parts = Parts(
                options=options,
                books=self.books,
                claims=Claims(self.store, self.books, self._check_clock, alone=options.cluster is None),
                gate=gate,
                reading=Reading(self.books, self.store, gate),
                membership=membership,
                blobs=self.blobs,
                abandoned=self.abandoned,
                backups=backups,
                moving=moving,
                cluster=self._nodes(gate),
                audit=self.audit,
                metrics=self.metrics,
                look=self.health,
                hindrances=self.hindrances,
                nats=lambda: nats_place(options, self.bus.client_port, self.bus.websocket_port),
                nodes=self._urls,
                draining=lambda: self._joining.draining,
                certificates=self._certificates,
                log=log,
            )
            self.http_port = await serve(parts, stack)
            if self._certificates is not None:
                await self._certificates.look(options.http_host, self.http_port)
            self._begin_upkeep()
            if self._engine.kv is not None:
                self._begin_joining(self._engine.kv)
            self._stack = stack.pop_all()
        return self

    def _enter_certificates(self, stack: AsyncExitStack) -> None:
        options = self._options
        # Loaded where they are needed only: what reads certificates is large.
        if options.tls is not None:
            from unibus.daemon.tls import Certificates

            found = Certificates(options.tls, log, clock=time.time, random=os.urandom)
            self._certificates = stack.enter_context(found)
        if options.cluster is not None and options.cluster.tls is not None:
            from unibus.daemon.route_tls import RouteCertificates

            routes = RouteCertificates(options.cluster.tls, options.tls, log, clock=time.time)
            self._routes = stack.enter_context(routes)

    def _bus_options(self) -> BusOptions:
        certificates, routes = self._certificates, self._routes
        return bus_options(
            self._options, certificates.bus if certificates else None, routes.bus if routes is not None else None
        )

    async def _dial(self) -> "Client":
        await self._bus_begun.wait()  # the store is opened first, and asks at once
        try:
            return await self.bus.core_dial()
        except BusUnavailable as error:
            raise StorageUnavailable(error.message) from error

    def _no_more(self) -> bool:
        return self.bus.closed

    async def _bus_is_durable(self) -> bool:
        return bool(self.bus.status()["durable"])

    async def _take_up_alone(self) -> None:
        try:
            await self._take_up_first()
        except StorageUnavailable as error:
            raise StartRefused(error.message) from error

    async def _take_up_first(self) -> None:
        await self._take_up()
        for key in filter(self.books.directory.active, self._options.nats_operators):
            # Its login would be the operator's from then on, and outlive the user's revocation.
            raise StartRefused(f"--nats-operator {key} is a user of this bus: give the operator a key of its own")

    async def _take_up(self) -> None:
        """Read what the store has. Users are let in as soon as the books are loaded, so those come last."""
        self.books.restored = await floor(self.store)
        await self.blobs.recount()
        await self.books.load()
        if self.founded:
            self.data_dir.spend_token()
        else:
            self.data_dir.bootstrap_token()

    def _nodes(self, gate: Gate) -> Nodes:
        kv = self._engine.kv

        def known() -> dict[str, bool]:
            return {} if kv is None else {heard.name: heard.alive for heard in self._joining.heard(kv)}

        async def forget(name: str) -> None:
            if kv is not None:
                await kv.forget_node(name)

        return Nodes(gate, self.audit, self.bus if self._options.cluster is not None else None, known, forget)

    def _fellows(self) -> Fellows | None:
        kv = self._engine.kv
        if kv is None:
            return None
        return Fellows(self._options.node_name, lambda: self._joining.alive(kv), self._followed.until, log)

    def _begin_joining(self, kv: "KvStore") -> None:
        following = Following(self.books, self.bus, self._take_up, self._followed)
        kv.heard(following.heard)
        kv.heard(self._heard)
        self.own(asyncio.create_task(following.run(), name="following"))
        self.own(asyncio.create_task(recount_blobs(self.blobs), name="blobs count"))
        parts = sweep_parts(kv, kv.sweep_parts, time.time, self.books.check_current)
        self.own(asyncio.create_task(parts, name="parts upkeep"))
        if self._engine.link is not None:
            self.own(asyncio.create_task(self._engine.link.run(), name="blob link"))
        joining = asyncio.create_task(self._joining.join(kv, self._take_up_first), name="joining")
        self._tasks.append(joining)
        joining.add_done_callback(self._joining_ended)

    def _joining_ended(self, joining: "asyncio.Task[None]") -> None:
        if joining.cancelled() or joining.exception() is not None:
            self._part_failed(joining)
        elif not self.founded:
            log.info("this bus has no users yet", token=str(self.data_dir.token_path))

    def _heard(self, name: str, _position: int, _value: bytes) -> None:
        """Another node may found the bus; this one's token is then good for nothing, and goes."""
        if name == DIRECTORY and not self.books.moving:
            self.data_dir.spend_token()

    def _begin_upkeep(self) -> None:
        held = self.metrics.held
        for name, work in {
            "loop watch": watch_loop(self.metrics.loop_lag.set),
            "measure": measure(self.store, self.blobs, lambda name, value: held[name].set(value)),
            "claims upkeep": forget_claims(self.store, time.time),
            "blobs upkeep": sweep_blobs(self.store, self.blobs, time.time, self.books.check_current),
            "abandoned upkeep": free_abandoned(self.store, self.abandoned, time.time, self.books.check_current),
            "retention upkeep": drop_old_messages(self.store, self.bus, time.time, self.books.check_current),
        }.items():
            self.own(asyncio.create_task(work, name=name))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._drain()
        finally:
            await self._stack.aclose()
        if not self.failed.done():
            self.failed.cancel()

    @property
    def founded(self) -> bool:
        """Whether the bus has its first admin, and is all here."""
        return self.books.directory.bus is not None and not self.books.moving

    def _bootstrap(self) -> str | None:
        return None if self.founded else self.data_dir.bootstrap_token()

    def own(self, task: asyncio.Task[None]) -> None:
        """Have `task` run as long as this node does. That it ends by itself is a failure of the node."""
        self._tasks.append(task)
        task.add_done_callback(self._part_failed)

    async def renew_certificate(self) -> None:
        """Take up certificates that were renewed on disk; connections and routes stay. What fails is logged."""
        if self._certificates is None and self._routes is None:
            log.info("nothing to renew: there is no certificate")
        if self._certificates is not None:
            await self._certificates.renew(self._options.http_host, self.http_port, self.bus.renew_certificate)
        if self._routes is not None:
            await self._routes.renew(self.bus.renew_certificate)

    def _check_clock(self) -> None:
        if self._engine.kv is not None:
            self._joining.check_clock(self._engine.kv)

    def _urls(self) -> list[str]:
        return self._joining.urls(self._engine.kv) if self._engine.kv is not None else []

    async def _drain(self) -> None:
        """Tell everybody that this node is about to end, and serve on until they have heard it.

        `/healthz` says so, the other nodes name it no more, and answers end the connections that they come on.
        """
        if self._options.cluster is not None and not self.failed.done():
            self._joining.draining = True
            await asyncio.sleep(DRAINING)

    async def health(self) -> dict[str, Any]:
        """What `/healthz` shows."""
        try:
            store = await self.store.posture()
        except StorageUnavailable as error:
            store = {"engine": self._options.store, "durable": False, "reasons": [error.message]}
        kv = self._engine.kv
        return health(
            node=self._options.node_name,
            version=__version__,
            uptime=time.monotonic() - self._started,
            founded=self.founded,
            store=store,
            bus=self.bus.status(),
            tls=self._certificates.status() if self._certificates else None,
            nodes=self._joining.status(kv) if kv is not None else None,
            route_trouble=self._routes.trouble if self._routes else "",
            now=time.time(),
        )

    def hindrances(self) -> list[str]:
        """What `/readyz` shows: why no client should be sent here now."""
        return unready(
            records=_refusal(self.books.check_current),
            bus=self.bus.status(),
            joined=self._engine.kv is None or self._joining.joined,
            draining=self._joining.draining,
            clock=_refusal(self._check_clock),
        )

    async def _end_tasks(self) -> None:
        await end_tasks(*self._tasks)

    def _part_failed(self, part: "asyncio.Future[None]") -> None:
        if part.cancelled() or self.failed.done():
            return
        error = part.exception()
        self.failed.set_exception(error if error is not None else RuntimeError("a part of the node ended"))


def _refusal(check: Callable[[], None]) -> str | None:
    """Why `check` refuses, None if it does not."""
    try:
        check()
    except StorageUnavailable as error:
        return error.message
    return None
