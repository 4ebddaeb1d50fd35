"""One life of nats-server, from its start to its end: the child, the daemon's links, the callout, the deliveries.

Everything in it dies together. A server that cannot be commanded any more is killed: it must never serve on with
connections that a revocation did not reach.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import nats.errors
from nats.aio.msg import Msg
from structlog.typing import FilteringBoundLogger

from unibus.bus import config, retention, snapshot, stream
from unibus.bus.callout import Callout
from unibus.bus.child import Child
from unibus.bus.deliveries import Deliveries
from unibus.bus.keys import BusKeys
from unibus.bus.links import Links
from unibus.bus.listening import watch_subscriptions
from unibus.bus.options import BusAuth, BusOptions
from unibus.bus.posture import Posture, read_posture
from unibus.bus.registry import Registry
from unibus.bus.tap import tap
from unibus.bus.tls import BusTls, comes_to_show
from unibus.errors import BusUnavailable
from unibus.services.ports import BusPolicy, Decided, StreamState

READY_WITHIN = 120.0
STOP_GRACE = 5.0
CHECK_EVERY = 5.0
_LAST_WORDS = 0.2


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every life is given: the same keys, policy, clock (Unix seconds) and randomness through all restarts."""

    options: BusOptions
    binary: Path
    keys: BusKeys
    policy: BusPolicy
    clock: Callable[[], float]
    random: Callable[[int], bytes]
    log: FilteringBoundLogger
    decided: Decided


class Life:
    """Starts with `begin`; `over` is done, with the reason, once it cannot go on, and `end` cleans up after it."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._child: Child | None = None
        self._closing = contextlib.AsyncExitStack()
        self._links: Links | None = None
        self.deliveries: Deliveries | None = None
        self.registry = Registry()
        self.posture: Posture | None = None
        self.port = self.ws_port = 0
        self._checking = asyncio.Lock()  # JetStream does not answer while the server takes its configuration in again
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def begin(self, port: int, ws_port: int) -> None:
        """Start the server on its ports (0: a free one) and return when it serves. Raises BusUnavailable."""
        around = self._around
        path = around.options.run_dir / "nats-server.conf"
        try:
            for stale in around.options.run_dir.glob("*.ports"):
                stale.unlink()  # left by a server that was killed; its process number may come again
            _write_private(path, config.render(around.options, around.keys, port, ws_port))
        except OSError as error:
            raise BusUnavailable(f"{path} cannot be written: {error.strerror}") from error
        descriptors = around.options.tls.descriptors if around.options.tls else ()
        self._child = child = await Child.start(around.binary, path, around.log, descriptors)
        self._closing.push_async_callback(self._stop, child)
        child.ended.add_done_callback(lambda ended: self._fail(ended.result()))
        await self._unless_over(self._serve(child))

    async def end(self) -> None:
        """Let go of everything; the server's process is gone when this returns."""
        await self._closing.aclose()

    async def cut(self, user: str, room: str | None = None) -> None:
        """End what `user` has, or what it has of `room`: connections first, then deliveries.

        When this returns nothing of it is alive: if the server does not obey, it is killed.
        """
        reached = self.registry.revoke(user, room)
        if self._links is None or self.deliveries is None:
            return  # nobody was let in yet
        try:
            await asyncio.gather(*(self._kick(cid) for cid in reached))
            await self.deliveries.end(user, room)
        except BusUnavailable as error:
            await self._lose_control(error)

    async def retain(self, room: str, seconds: int | None, size: int | None) -> None:
        """Drop what the room no longer keeps. Raises BusUnavailable."""
        if self._links is not None:
            await retention.retain(self._links, room, seconds, size, self._around.clock())

    async def snapshot(self, path: Path) -> StreamState:
        """Write all frames to the new file `path`. Raises BusUnavailable, OSError."""
        if self._links is None:
            raise BusUnavailable("nats-server is not ready: try again")
        return await snapshot.save(self._links, path)

    async def renew(self, tls: BusTls) -> None:
        """Have the server take up the certificate that is in its file now, and return when it shows it.

        nats-server decides about every connection again meanwhile, and none of them notices. Raises BusUnavailable.
        """
        if self._child is None or self._links is None:
            return  # the server that comes next reads the new one
        async with self._checking:
            await self._renew(self._child, self._links, tls)

    async def _renew(self, child: Child, links: Links, tls: BusTls) -> None:
        child.reload()
        await self._unless_over(comes_to_show(self._around.options.dial_host, self.port, tls.context()))
        self.posture = await read_posture(links, self._around.options.node)

    async def announce(self, subject: str, body: bytes) -> None:
        """Publish to a member's announcements, if the server is there."""
        if self._links is not None and not self.over.done():
            with contextlib.suppress(nats.errors.Error):  # a broken link ends this life, and that is what is told
                await self._links.core.publish(subject, body)

    async def _serve(self, child: Child) -> None:
        around = self._around
        options = around.options
        self.port = await child.port(options.run_dir)
        if options.ws_host is not None:
            self.ws_port = await child.port(options.run_dir, "websocket")
        host = f"[{options.dial_host}]" if ":" in options.dial_host else options.dial_host
        tls = options.tls.context() if options.tls else None
        links = await Links.connect(f"nats://{host}:{self.port}", around.keys, around.log, tls)
        self._closing.push_async_callback(links.close)
        links.lost.add_done_callback(self._link_lost)
        self.posture = await read_posture(links, options.node)
        await stream.ensure(links, options.max_payload)
        await links.system.subscribe(f"$SYS.ACCOUNT.{config.MEMBERS}.*", cb=self._came_or_went)
        await links.system.flush()
        self._links = links
        self.deliveries = Deliveries(links, around.policy, options.mode, around.log)
        self._closing.push_async_callback(self.deliveries.close)
        await self.deliveries.start()
        if options.mode is BusAuth.WARN:
            await tap(links, around.policy, around.log)
            watch = asyncio.create_task(
                watch_subscriptions(links, self.posture.server, self.registry, around.policy, around.log),
                name="subscriptions watch",
            )
            watch.add_done_callback(self._check_ended)
            self._closing.callback(watch.cancel)
        callout = Callout(
            links,
            around.keys,
            self.posture.server,
            around.policy,
            self.registry,
            options.mode,
            clock=around.clock,
            random=around.random,
            log=around.log,
            decided=around.decided,
        )
        self._closing.push_async_callback(callout.close)
        await callout.start()
        check = asyncio.create_task(self._keep_checking(links), name="nats-server check")
        check.add_done_callback(self._check_ended)
        self._closing.callback(check.cancel)

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
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep_checking(self, links: Links) -> None:
        """Ends when the server is there but does not answer, which is as good as gone."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            async with self._checking:
                self.posture = await read_posture(links, self._around.options.node)
                await stream.last_sequence(links)

    def _check_ended(self, check: asyncio.Task[None]) -> None:
        if not check.cancelled() and (error := check.exception()) is not None:
            self._fail(f"the check of nats-server failed: {error}")

    async def _came_or_went(self, message: Msg) -> None:
        event = json.loads(message.data)
        if self.posture is None or event["server"]["id"] != self.posture.server:
            return  # another node's connection, which has a number of its own
        cid = int(event["client"]["id"])
        if message.subject.endswith(".DISCONNECT"):
            self.registry.gone(cid)
        elif message.subject.endswith(".CONNECT") and not self.registry.came_up(cid):
            try:
                await self._kick(cid)
            except BusUnavailable as error:
                await self._lose_control(error)

    async def _lose_control(self, error: BusUnavailable) -> None:
        """A server that does not obey must not serve on with somebody who is out."""
        self._fail(f"a revocation did not get through: {error.message}")
        if self._child is not None:
            await self._child.kill()

    async def _kick(self, cid: int) -> None:
        """Close connection `cid`; that it is gone already is an error of the server's answer, and as good."""
        if self._links is not None and self.posture is not None:
            await self._links.server(f"{self.posture.server}.KICK", {"cid": cid})

    def _link_lost(self, lost: asyncio.Future[str]) -> None:
        """Of a server that died this is the first sign; its own end, a moment later, is the better reason."""
        if not lost.cancelled():
            asyncio.get_running_loop().call_later(_LAST_WORDS, self._fail, lost.result())

    async def _stop(self, child: Child) -> None:
        """One that failed its daemon gets no time to serve on."""
        await child.stop(0.0 if self.over.done() else STOP_GRACE)

    def _fail(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)


def _write_private(path: Path, text: str) -> None:
    """Write a new file that only this user can read; one that is there is replaced, not reused."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
        file.write(text)
