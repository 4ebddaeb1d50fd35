"""One life of nats-server, from its start to its end: the daemon's links, the callout, the deliveries.

Everything in it dies together. A server that cannot be commanded any more is subdued, which means killed where it is
ours: it must never serve on with connections that a revocation did not reach. Whose it is only `server.Server` knows.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import nats.errors
from nats.aio.client import Client
from structlog.typing import FilteringBoundLogger

from unibus.bus import cluster_watch, config, copies, retention, snapshot, stream, taking_in
from unibus.bus.callout import Callout
from unibus.bus.cluster import Seat
from unibus.bus.cluster_watch import ClusterWatch
from unibus.bus.deliveries import Deliveries
from unibus.bus.door import Door
from unibus.bus.fellows import Fellows
from unibus.bus.keys import BusKeys
from unibus.bus.links import Links, dial_core
from unibus.bus.listening import watch_subscriptions
from unibus.bus.mark import Marker
from unibus.bus.members import Members
from unibus.bus.options import BusAuth, BusOptions
from unibus.bus.pacing import watch_pace
from unibus.bus.posture import Posture, read_posture
from unibus.bus.reserve import Reserve
from unibus.bus.retention import Retention
from unibus.bus.server import Reached, Server
from unibus.bus.shut_out import share
from unibus.bus.standing import watch_standing
from unibus.bus.tap import tap
from unibus.errors import BusUnavailable, StartRefused
from unibus.services.ports import BusPolicy, Decided, Scaled, StreamState, Undelivered
from unibus.tasks import end_tasks

READY_WITHIN = 120.0
STOP_GRACE = 5.0
DRAIN_WITHIN = 2.0
CHECK_EVERY = 5.0
_LAST_WORDS = 0.2
_LOADED = 0.05
_NOTE_WITHIN = 1.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every life is given: the same keys, policy, clock (Unix seconds) and randomness through all restarts.

    `current` says why what was decided may not be known here, None if it is; `cut_off` hears of users that were.
    """

    options: BusOptions
    server: Server
    keys: BusKeys
    marker: Marker
    policy: BusPolicy
    clock: Callable[[], float]
    random: Callable[[int], bytes]
    log: FilteringBoundLogger
    decided: Decided
    undelivered: Undelivered
    scaled: Scaled
    monotonic: Callable[[], float]
    current: Callable[[], str | None]
    cut_off: Callable[[str], None]
    fellows: Fellows | None


class Life:
    """Starts with `begin`; `over` is done, with the reason, once it cannot go on, and `end` cleans up after it."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._server = around.server
        self._closing = contextlib.AsyncExitStack()
        self._links: Links | None = None
        self.deliveries: Deliveries | None = None
        self._members: Members | None = None
        self._retention: Retention | None = None
        self.refusal: StartRefused | None = None
        self._name = ""
        self._reached: Reached | None = None
        self.posture: Posture | None = None
        self._digest: str | None = None
        self.cluster: ClusterWatch | None = None
        self.reserve: Reserve | None = None
        self._checking = asyncio.Lock()  # JetStream does not answer while the server takes its configuration in again
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def begin(self) -> None:
        """Start the server and return when it serves. Raises BusUnavailable."""
        self._closing.push_async_callback(self._stop)
        await self._server.start(self._fail)
        await self._unless_over(self._serve())

    async def end(self) -> None:
        """Let go of everything; the process of a server of ours is gone when this returns.

        A life that ends because it is asked to lets its members go first, for some seconds.
        """
        try:
            if self._links is not None and not self.over.done():
                if not self.hindrance:
                    await self._note_last(self._links)
                if self._members is not None and self.connections and await self._server.drain():
                    await self._members.wait_gone(DRAIN_WITHIN)
        finally:
            await self._closing.aclose()

    async def cut(self, user: str, room: str | None = None) -> None:
        """End what `user` has, or what it has of `room`: connections first, then deliveries.

        When this returns nothing of it is alive, or the server did not obey, and is subdued.
        """
        if self._members is not None:  # else nobody was let in yet
            await self._members.cut(user, room)

    async def retain(self, room: str, seconds: int | None, size: int | None) -> None:
        """Drop what the room no longer keeps. Raises BusUnavailable."""
        if self.hindrance:
            raise BusUnavailable(self.hindrance)
        if self._retention is not None:
            await self._retention.retain(room, seconds, size, self._around.clock())

    async def drop(self, room: str) -> int:
        """Drop all of the room's messages; how many there were. Raises BusUnavailable."""
        links = self._serving()
        async with self._around.marker.dropping():
            return await retention.drop(links, room)

    async def snapshot(self, path: Path) -> StreamState:
        """Write all frames to the new file `path`. Raises BusUnavailable, OSError."""
        if self._links is None:
            raise BusUnavailable("nats-server is not ready: try again")
        return await snapshot.save(self._links, path)

    async def holds(self, state: StreamState) -> bool:
        """See `services.ports.MessagesPlace`."""
        return await taking_in.holds(self._serving(), state)

    async def take_in(self, path: Path, state: StreamState) -> None:
        """See `services.ports.MessagesPlace`."""
        async with self._checking:  # a stream that is just being made would pass for one that is lost
            await taking_in.take_in(self._serving(), self._around.options, path, state)

    def _serving(self) -> Links:
        if self._links is None or self.hindrance:
            raise BusUnavailable(self.hindrance or "nats-server is not ready: try again")
        return self._links

    async def keep_on(self, replicas: int) -> None:
        """See `services.ports.ClusterPlace`."""
        size = self.cluster.view.get("size", 1) if self.cluster is not None else 1
        await copies.keep_on(self._reachable(), replicas, int(str(size)))

    async def give_up(self, node: str) -> None:
        """See `services.ports.ClusterPlace`."""
        await copies.give_up(self._reachable(), node)

    def _reachable(self) -> Links:
        if self._links is None:
            raise BusUnavailable("nats-server is not ready: try again")
        return self._links

    async def renew(self) -> None:
        """Have the server take up the certificate that is in its file now, and return when it shows it.

        Raises BusUnavailable.
        """
        if self._links is None:
            return  # the server that comes next reads the new one
        async with self._checking:
            await self._renew(self._links)

    async def _renew(self, links: Links) -> None:
        before = await read_posture(links, self._name)
        await self._unless_over(self._server.renew())
        if self.cluster is not None:  # nobody but a peer is shown a route's certificate
            await self._unless_over(self._taken_in(links, before.loaded))
        self.posture = await read_posture(links, self._name)

    async def _taken_in(self, links: Links, before: str) -> None:
        while (await read_posture(links, self._name)).loaded == before:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(_LOADED)

    @property
    def hindrance(self) -> str:
        """Why this life does not serve though its server runs; empty if it does."""
        return self.cluster.reason if self.cluster is not None else ""

    @property
    def connections(self) -> int:
        """How many connections members have."""
        return len(self._members.registry) if self._members is not None else 0

    @property
    def configured(self) -> bool:
        """Whether the server runs with the configuration that decides who may connect, by its own account."""
        return self.posture is not None and self._digest in {None, self.posture.digest}

    async def dial(self) -> Client:
        """A new connection to CORE, which the caller closes; it breaks with this life. Raises BusUnavailable."""
        around, reached = self._around, self._reached
        if reached is None or self.over.done():
            raise BusUnavailable("nats-server is not ready: try again")
        return await dial_core(reached.address, around.keys, around.log, reached.tls)

    async def announce(self, subject: str, body: bytes) -> None:
        """Publish to a member's announcements, if the server is there."""
        if self._links is not None and not self.over.done():
            with contextlib.suppress(nats.errors.Error):  # a broken link ends this life, and that is what is told
                await self._links.core.publish(subject, body)

    async def _serve(self) -> None:
        around = self._around
        options = around.options
        reached = await self._server.reach()
        self._name, self._reached = reached.name, reached
        links = await Links.connect(reached.address, around.keys, around.log, reached.tls, reached.advice)
        self._closing.push_async_callback(links.close)
        links.lost.add_done_callback(self._link_lost)
        self.posture = await read_posture(links, self._name)
        await self._server.vet(links, config.MEMBERS)
        self._digest = await self._server.digest()
        seat = Seat(options.node, self.posture.server) if options.cluster is not None else None
        if seat is None:
            bounded = options.records or options.external is not None
            await stream.ensure(links, options.max_payload, bounded=bounded)
            await around.marker.begin(links)
        self.deliveries = Deliveries(
            links, around.policy, options.mode, around.log, seat, undelivered=around.undelivered
        )
        server, monotonic = self.posture.server, around.monotonic
        members = Members(links, server, self.deliveries, monotonic, self._lose_control)
        await members.watch()
        registry, pace = members.registry, members.pace
        self._links, self._members = links, members
        self._retention = Retention(links, around.marker.dropping)
        self._closing.push_async_callback(self.deliveries.close)
        if options.cluster is not None:
            self.cluster = ClusterWatch(
                links, options, options.cluster, around.marker, around.log, self.deliveries.gone
            )
            self._closing.push_async_callback(self.cluster.close)
        await self.deliveries.start()
        if options.records:
            self.reserve = Reserve(links, self._name, lambda: self.cluster.peers if self.cluster else (), around.log)
            self._run(self.reserve.run(), "room for records")
        if options.operators:
            await Door(links, seat.node if seat else None, around.scaled, around.log).open()
        if options.mode is BusAuth.WARN:
            await tap(links, around.policy, around.log)
            self._run(watch_subscriptions(links, server, registry, around.policy, around.log), "subscriptions watch")
        if options.mode is BusAuth.ENFORCE:
            self._run(
                watch_pace(links, server, config.MEMBERS, registry, pace, monotonic, around.log, around.cut_off), "pace"
            )
            self._run(watch_standing(links, server, registry, around.current, monotonic, around.log), "standing")
            if options.cluster is not None:
                self._run(share(links, self._server.shut_out, self.cut, monotonic, around.log), "shut out")
        if around.fellows is not None:
            self._closing.push_async_callback(await around.fellows.listen(links))
        callout = Callout(
            links,
            around.keys,
            server,
            around.policy,
            registry,
            options.mode,
            clock=around.clock,
            random=around.random,
            log=around.log,
            decided=around.decided,
            lease=self._server.lease,
            shared=options.cluster is not None,
            withheld=self.deliveries.lingers,
            kept_out=lambda user: pace.kept_out(user, monotonic()),
            shut_out=lambda user: self._server.shut_out.holds(user, monotonic()),
            monotonic=monotonic,
        )
        self._closing.push_async_callback(callout.close)
        await callout.start()
        self._run(self._keep_checking(links), "nats-server check")

    def _run(self, check: Coroutine[object, object, None], name: str) -> None:
        """Have `check` run until this life is over; that it fails ends it."""
        task = asyncio.create_task(check, name=name)
        task.add_done_callback(self._check_ended)
        self._closing.push_async_callback(end_tasks, task)

    async def _unless_over(self, work: Coroutine[object, object, None]) -> None:
        """Do `work`, but give up as soon as this life is over or it took too long."""
        task = asyncio.create_task(work, name="nats-server start")
        try:
            racing: list[asyncio.Future[None] | asyncio.Future[str]] = [task, self.over]
            await asyncio.wait(racing, timeout=READY_WITHIN, return_when=asyncio.FIRST_COMPLETED)
            if self.over.done():
                raise BusUnavailable(self.over.result())
            if not task.done():
                raise BusUnavailable(f"nats-server was not ready within {READY_WITHIN:.0f} s")
            task.result()
        finally:
            await end_tasks(task)

    async def _keep_checking(self, links: Links) -> None:
        """Ends when the server is there but does not answer, which is as good as gone."""
        while self.cluster is None:
            await asyncio.sleep(CHECK_EVERY)
            async with self._checking:
                self.posture = await read_posture(links, self._name)
                await self._around.marker.note(links)
            self._check_store()
        while True:
            async with self._checking:
                self.posture = await read_posture(links, self._name)
                await self.cluster.look(self.posture)
            self._check_store()
            # The one that was there first goes on. Two of one name would vote as one.
            if self._server.name_taken() and not self.cluster.served:
                raise StartRefused(
                    f"the cluster has a node called {self._name} already: choose another name with --node-name"
                )
            await asyncio.sleep(cluster_watch.EVERY)

    def _check_store(self) -> None:
        if self._server.stuck():
            raise BusUnavailable("a write had failed, and it would store nothing more")

    def _check_ended(self, check: asyncio.Task[None]) -> None:
        if not check.cancelled() and (error := check.exception()) is not None:
            self.refusal = error if isinstance(error, StartRefused) else None
            self._fail(f"the check of nats-server failed: {error}")

    async def _lose_control(self, error: BusUnavailable) -> None:
        """A server that does not obey must not serve on with somebody who is out."""
        self._fail(f"a revocation did not get through: {error.message}")
        await self._server.subdue()

    def _link_lost(self, lost: asyncio.Future[str]) -> None:
        """Of a server that died this is the first sign; its own end, a moment later, is the better reason."""
        if not lost.cancelled():
            asyncio.get_running_loop().call_later(_LAST_WORDS, self._fail, lost.result())

    async def _note_last(self, links: Links) -> None:
        """How much there is in the end, if the server still says."""
        with contextlib.suppress(BusUnavailable, TimeoutError):
            async with asyncio.timeout(_NOTE_WITHIN):
                await self._around.marker.note(links)

    async def _stop(self) -> None:
        """One that failed its daemon gets no time to serve on."""
        await self._server.stop(0.0 if self.over.done() else STOP_GRACE)

    def _fail(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)
