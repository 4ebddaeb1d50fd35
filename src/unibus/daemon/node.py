"""One node: the one place where store, services, bus and HTTP are wired. The end-to-end tests start it too.

Starts from the inside out and stops from the outside in, so that nothing is asked of a part that is not up.
"""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import structlog
from aiohttp import web

from unibus import __version__
from unibus.bus.options import BusAuth, BusOptions
from unibus.bus.plane import BusPlane
from unibus.daemon.data_dir import BACKUP, BLOBS, STORE, DataDir
from unibus.daemon.options import Options
from unibus.daemon.tls import Certificates
from unibus.errors import InviteUnknown, NotAUser, StartRefused, StorageUnavailable, UnibusError
from unibus.http.api import Api, NatsPlace
from unibus.http.audit import AuditApi, audit_middleware
from unibus.http.auth import Authenticator
from unibus.http.backup import BackupApi
from unibus.http.blobs import BlobApi
from unibus.http.description import described
from unibus.http.health import health, health_operations
from unibus.http.limiting import Limiter
from unibus.http.metrics import Metrics
from unibus.http.problems import problem_middleware
from unibus.http.routing import route
from unibus.http.site import Site
from unibus.services.audit import NOBODY, ORIGIN, Audit
from unibus.services.backups import Backups
from unibus.services.blobs import Blobs
from unibus.services.books import Books
from unibus.services.gate import Gate
from unibus.services.membership import Membership
from unibus.services.reading import Reading
from unibus.services.restores import floor
from unibus.services.upkeep import drop_old_messages, forget_claims, measure, sweep_blobs, watch_loop
from unibus.store.blob_files import FileBlobs
from unibus.store.port import Store
from unibus.store.sqlite import SqliteStore

log = structlog.get_logger("unibus.node")


class Node:
    """A running node while entered. Raises StartRefused when it cannot start."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stack = AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._certificates: Certificates | None = None
        self._started = time.monotonic()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with an exception when a part that must not end has ended; the process should then end too."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            if self._options.tls is not None:
                found = Certificates(self._options.tls, log, clock=time.time, random=os.urandom)
                self._certificates = stack.enter_context(found)
            self.data_dir = stack.enter_context(DataDir(self._options.data_dir))
            self.store: Store = await self._open_store(stack)
            self.books = Books(self.store)
            try:
                await self.books.load()
            except StorageUnavailable as error:
                raise StartRefused(error.message) from error
            self.books.restored = await floor(self.store)
            self.audit = Audit(self.store, self._options.node_name, time.time)
            await self.audit.open()
            stack.push_async_callback(self.audit.close)
            gate = Gate(self.books, self.store)
            self.metrics = Metrics(self._gauges())
            self.bus = BusPlane(self._bus_options(), gate, log, decided=self._decided)
            await self.bus.start()
            stack.push_async_callback(self.bus.stop)
            self.bus.failed.add_done_callback(self._part_failed)
            membership = Membership(
                self.books,
                self.store,
                self.bus,
                time.time,
                audit=self.audit,
                bootstrap=self._bootstrap(),
                founded=self.data_dir.spend_token,
            )
            stack.push_async_callback(membership.close)
            files = await FileBlobs.open(self._options.data_dir / BLOBS)
            blobs = await self._load_blobs(gate, files)
            backups = Backups(
                books=self.books,
                gate=gate,
                store=self.store,
                blobs=files,
                messages=self.bus,
                audit=self.audit,
                clock=time.time,
                node=self._options.node_name,
                work=self._options.data_dir / BACKUP,
            )
            stack.push_async_callback(self._end_tasks)  # from here on there are some, also when what follows fails
            await self._serve_http(stack, gate, membership, blobs, backups)
            self._own(asyncio.create_task(forget_claims(self.store, time.time), name="claims upkeep"))
            self._own(asyncio.create_task(sweep_blobs(blobs), name="blobs upkeep"))
            self._own(asyncio.create_task(drop_old_messages(self.store, self.bus), name="retention upkeep"))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()
        if not self.failed.done():
            self.failed.cancel()

    @property
    def founded(self) -> bool:
        """Whether the bus has its first admin."""
        return self.books.directory.bus is not None

    async def _open_store(self, stack: AsyncExitStack) -> Store:
        try:
            store = await SqliteStore.open(self._options.data_dir / STORE)
        except StorageUnavailable as error:
            raise StartRefused(error.message) from error
        stack.push_async_callback(store.close)
        return store

    async def _load_blobs(self, gate: Gate, files: FileBlobs) -> Blobs:
        blobs = Blobs(self.books, gate, files, self.audit, time.time, self._options.blobs)
        try:
            await blobs.load()
        except StorageUnavailable as error:
            raise StartRefused(error.message) from error
        return blobs

    def _bus_options(self) -> BusOptions:
        options = self._options
        ws_host, ws_port = options.ws_bind or (None, 0)
        return BusOptions(
            data_dir=options.data_dir,
            host=options.nats_host,
            port=options.nats_port,
            mode=BusAuth(options.bus_auth),
            binary=options.nats_server,
            node=options.node_name,
            tls=self._certificates.bus if self._certificates else None,
            ws_host=ws_host,
            ws_port=ws_port,
        )

    def _bootstrap(self) -> str | None:
        if self.founded:
            self.data_dir.spend_token()
            return None
        return self.data_dir.bootstrap_token()

    async def _serve_http(
        self,
        stack: AsyncExitStack,
        gate: Gate,
        membership: Membership,
        blobs: Blobs,
        backups: Backups,
    ) -> None:
        reading = Reading(self.books, self.store, gate)

        def authenticator(knows: Callable[[str], bool], stranger: type[UnibusError]) -> Authenticator:
            return Authenticator(
                self.store,
                bus_id=reading.bus_id,
                is_user=knows,
                clock=time.time,
                stranger=stranger,
                body_seconds=limits.body_seconds,
                held_bodies=limits.held_bodies,
                pace=limiter.pace,
                floor=self.books.restored,
            )

        limits = self._options.limits
        limiter = Limiter(limits, time.monotonic)
        users = authenticator(self.books.directory.active, NotAUser)
        invited = authenticator(reading.is_invite, InviteUnknown)
        api = Api(users, invited, membership, reading, gate, self._nats_place, time.time, limits)
        metrics = self.metrics
        self._own(asyncio.create_task(watch_loop(metrics.loop_lag.set), name="loop watch"))
        held = metrics.held
        self._own(
            asyncio.create_task(measure(self.store, blobs, lambda name, value: held[name].set(value)), name="measure")
        )
        problems = problem_middleware(log, lambda: secrets.token_hex(8))
        app = web.Application(
            middlewares=[problems, metrics.middleware(), audit_middleware(self.audit), limiter.middleware()]
        )
        operations = [
            *health_operations(self.health),
            metrics.operation(),
            *api.operations(),
            *AuditApi(users, gate, self.audit, self._options.node_name).operations(),
            *BlobApi(users, blobs).operations(),
            *BackupApi(users, backups).operations(),
        ]
        app.add_routes(route(operation, limits.request_seconds) for operation in described(operations, __version__))
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=5.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        host, port = self._options.http_host, self._options.http_port
        try:
            context = self._certificates.http if self._certificates else None
            site = Site(runner, host, port, log=log, limits=limits, tls=context)
            metrics.watch("http_connections", "open HTTP connections", lambda: site.connections)
            await site.start()
        except OSError as error:
            raise StartRefused(f"cannot listen on --http-bind {host}:{port}: {error.strerror}") from error
        self.http_port: int = runner.addresses[0][1]
        if self._certificates is not None:
            await self._certificates.look(host, self.http_port)

    def _nats_place(self) -> NatsPlace:
        return NatsPlace(None, self.bus.client_port, self._certificates is not None, self.bus.websocket_port)

    async def renew_certificate(self) -> None:
        """Take up a certificate that was renewed on disk, on both planes; connections stay. What fails is logged."""
        if self._certificates is None:
            log.info("nothing to renew: there is no certificate")
            return
        await self._certificates.renew(self._options.http_host, self.http_port, self.bus.renew_certificate)

    def _decided(self, user: str, host: str, error: UnibusError | None) -> None:
        self.metrics.bus_decided(error.code if error else "ok")
        if error is not None:
            ORIGIN.set(host)
            self.audit.refused("bus.connect", error, actor=NOBODY, claimed=user[:64] or None)  # nothing is proven yet

    def _gauges(self) -> dict[str, tuple[str, Callable[[], float]]]:
        directory = self.books.directory
        return {
            "users": ("active users", lambda: sum(1 for user in directory.users if directory.active(user))),
            "directory_records": ("records of the directory", lambda: directory.head.sequence),
            "bus_up": ("whether nats-server serves", lambda: float(bool(self.bus.status()["ready"]))),
            "bus_restarts": ("restarts of nats-server", lambda: _number(self.bus.status()["restarts"])),
            "bus_connections": ("connections of members", lambda: _number(self.bus.status()["connections"])),
            "bus_deliveries": ("open deliveries", lambda: _number(self.bus.status()["deliveries"])),
        }

    async def health(self) -> dict[str, Any]:
        """What `/healthz` shows."""
        try:
            store = await self.store.posture()
        except StorageUnavailable as error:
            store = {"engine": "sqlite", "durable": False, "reasons": [error.message]}
        return health(
            node=self._options.node_name,
            version=__version__,
            uptime=time.monotonic() - self._started,
            founded=self.founded,
            bus_auth=self._options.bus_auth,
            store=store,
            bus=self.bus.status(),
            tls=self._certificates.status() if self._certificates else None,
            now=time.time(),
        )

    def _own(self, task: asyncio.Task[None]) -> None:
        self._tasks.append(task)
        task.add_done_callback(self._part_failed)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _part_failed(self, part: "asyncio.Future[None]") -> None:
        if part.cancelled() or self.failed.done():
            return
        error = part.exception()
        self.failed.set_exception(error if error is not None else RuntimeError("a part of the node ended"))


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
