"""One node: the one place where store, services, bus and HTTP are wired. The end-to-end tests start it too.

Starts from the inside out and stops from the outside in, so that nothing is asked of a part that is not up.
"""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

import structlog

from unibus import __version__
from unibus.bus.options import BusAuth, BusOptions
from unibus.bus.plane import BusPlane
from unibus.daemon.data_dir import BACKUP, BLOBS, STORE, DataDir
from unibus.daemon.options import Options
from unibus.daemon.serving import Parts, serve
from unibus.daemon.tls import Certificates
from unibus.errors import StartRefused, StorageUnavailable, UnibusError
from unibus.http.api import NatsPlace
from unibus.http.health import health
from unibus.http.metrics import Metrics
from unibus.services.audit import NOBODY, ORIGIN, Audit
from unibus.services.backups import Backups
from unibus.services.blobs import Blobs
from unibus.services.books import Books
from unibus.services.following import Claims
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
        options = self._options
        async with AsyncExitStack() as stack:
            if options.tls is not None:
                found = Certificates(options.tls, log, clock=time.time, random=os.urandom)
                self._certificates = stack.enter_context(found)
            self.data_dir = stack.enter_context(DataDir(options.data_dir))
            self.store: Store = await self._open_store(stack)
            self.books = Books(self.store)
            self.audit = Audit(self.store, options.node_name, time.time)
            stack.push_async_callback(self.audit.close)
            gate = Gate(self.books, self.store)
            self.metrics = Metrics(self._gauges())
            files = await FileBlobs.open(options.data_dir / BLOBS)
            self.blobs = Blobs(self.books, gate, files, self.audit, time.time, options.blobs)
            await self._take_up()
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
                bootstrap=self._bootstrap,
                founded=self.data_dir.spend_token,
            )
            stack.push_async_callback(membership.close)
            backups = Backups(
                books=self.books,
                gate=gate,
                store=self.store,
                blobs=files,
                messages=self.bus,
                audit=self.audit,
                clock=time.time,
                node=options.node_name,
                work=options.data_dir / BACKUP,
            )
            stack.push_async_callback(self._end_tasks)  # from here on there are some, also when what follows fails
            parts = Parts(
                options=options,
                books=self.books,
                claims=Claims(self.store, self.books),
                gate=gate,
                reading=Reading(self.books, self.store, gate),
                membership=membership,
                blobs=self.blobs,
                backups=backups,
                audit=self.audit,
                metrics=self.metrics,
                look=self.health,
                nats=self._nats_place,
                certificates=self._certificates,
                log=log,
            )
            self.http_port = await serve(parts, stack)
            if self._certificates is not None:
                await self._certificates.look(options.http_host, self.http_port)
            self._begin_upkeep()
            self._stack = stack.pop_all()
        return self

    async def _take_up(self) -> None:
        """Read what the store has. Users are let in as soon as the books are loaded, so those come last."""
        try:
            self.books.restored = await floor(self.store)
            await self.audit.open()
            await self.blobs.load()
            await self.books.load()
        except StorageUnavailable as error:
            raise StartRefused(error.message) from error
        if self.founded:
            self.data_dir.spend_token()
        else:
            self.data_dir.bootstrap_token()

    def _begin_upkeep(self) -> None:
        held = self.metrics.held
        for name, work in {
            "loop watch": watch_loop(self.metrics.loop_lag.set),
            "measure": measure(self.store, self.blobs, lambda name, value: held[name].set(value)),
            "claims upkeep": forget_claims(self.store, time.time),
            "blobs upkeep": sweep_blobs(self.blobs),
            "retention upkeep": drop_old_messages(self.store, self.bus),
        }.items():
            self._own(asyncio.create_task(work, name=name))

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
        return None if self.founded else self.data_dir.bootstrap_token()

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
