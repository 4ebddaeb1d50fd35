"""The data plane as the daemon sees it: nats-server kept alive, and what services ask of the bus carried out.

Composes the rest of this package. Must never let a failure of its own go unseen: `failed` says when keeping the
server alive has itself ended.
"""

import asyncio
import contextlib
import os
import random as chance
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from nats.aio.client import Client
from structlog.typing import FilteringBoundLogger

from unibus.bus.backoff import Backoff
from unibus.bus.embedded import Embedded
from unibus.bus.fellows import Fellows
from unibus.bus.keys import BusKeys
from unibus.bus.life import Life, Surroundings
from unibus.bus.mark import Marker
from unibus.bus.options import BusOptions
from unibus.bus.reserve import TAKEN
from unibus.bus.server import Server
from unibus.crypto.encoding import dump_json
from unibus.errors import BusUnavailable, StartRefused
from unibus.model import subjects
from unibus.services.ports import BusPolicy, Decided, Scaled, StreamState, Taken, Undelivered
from unibus.tasks import end_tasks

OTHER_CONFIGURATION = "nats-server runs with another configuration than the daemon made: restart the daemon"
STOPPED_BY_A_MEMBER = "a member had stopped the messages and is shut out of the bus: the log names them; revoke them"
GIVE_UP_AFTER = 5
"""Tries after which a server that must not be run ends the daemon. One that is just being replaced is there by then."""
_LIFE_ENDS_WITHIN = 60.0  # seconds, generously: its members leave first, then its process


class BusPlane:
    """Implements `services.ports.BusEffects`. `start` and `stop` once each, in this order."""

    def __init__(
        self,
        options: BusOptions,
        policy: BusPolicy,
        log: FilteringBoundLogger,
        *,
        clock: Callable[[], float] = time.time,
        random: Callable[[int], bytes] = os.urandom,
        jitter: Callable[[], float] = chance.random,
        decided: Decided = lambda _user, _host, _error: None,
        undelivered: Undelivered = lambda _user, _room, _error: None,
        scaled: Scaled | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        current: Callable[[], str | None] = lambda: None,
        cut_off: Callable[[str], None] = lambda _user: None,
        fellows: Fellows | None = None,
    ) -> None:
        self._options = options
        self._policy = policy
        self._log = log
        self._decided = decided
        self._undelivered = undelivered
        self._scaled = scaled or _unheard
        self._monotonic = monotonic
        self._current = current
        self._cut_off = cut_off
        self._fellows = fellows
        self._clock = clock
        self._random = random
        self._jitter = jitter
        self._life: Life | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._reason = "not started"
        self._restarts = 0
        external = options.external
        self._keys = external.keys if external else BusKeys.generate(random)
        self._server: Server
        if external:
            from unibus.bus.external import ExternalServer  # here: a node with a server of its own is smaller without

            self._server = ExternalServer(options, external, log, clock=clock, random=random)
        else:
            self._server = Embedded(options, self._keys, log)
        self._marker = Marker(options.data_dir, log, shared=options.cluster is not None)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with an exception when the bus can no longer keep its server alive; nobody should go on then."""

    async def start(self) -> None:
        """Start nats-server and return when it serves. Raises StartRefused, naming what to change."""
        await self._server.prepare()
        around = Surroundings(
            options=self._options,
            server=self._server,
            keys=self._keys,
            marker=self._marker,
            policy=self._policy,
            clock=self._clock,
            random=self._random,
            log=self._log,
            decided=self._decided,
            undelivered=self._undelivered,
            scaled=self._scaled,
            monotonic=self._monotonic,
            current=self._current,
            cut_off=self._cut_off,
            fellows=self._fellows,
        )
        try:
            first = await self._begin(around)
        except BusUnavailable as error:
            raise StartRefused(f"the bus cannot start: {error.message}") from error
        version = first.posture.version if first.posture else None
        self._log.info("bus ready", version=version, port=self._server.port, auth=self._options.mode.value)
        self._keeper = asyncio.create_task(self._keep_alive(around, first), name="nats-server keeper")
        self._keeper.add_done_callback(self._keeper_ended)

    async def stop(self) -> None:
        """End nats-server; it is gone when this returns."""
        await end_tasks(self._keeper, again=_LIFE_ENDS_WITHIN)
        if self._life is not None:
            await self._life.end()
            self._life = None
        if not self.failed.done():
            self.failed.cancel()
        self._reason = "stopped"

    @property
    def client_port(self) -> int:
        """The port members connect to; the same through all restarts of the server."""
        return self._server.port

    @property
    def websocket_port(self) -> int | None:
        """The port of the WebSocket listener, None if there is none."""
        return self._server.ws_port if self._options.ws_host is not None else None

    async def renew_certificate(self) -> None:
        """Take up a changed certificate file without dropping a connection. Raises BusUnavailable if that failed."""
        if self._life is not None and self._options.descriptors:
            await self._life.renew()

    def status(self) -> Mapping[str, object]:
        """The bus's part of `/healthz`: what is read back from the server, or why there is nothing to read."""
        life = self._life
        posture = life.posture if life is not None and not self._reason else None
        reason = self._reason or (life.hindrance if life is not None else "")
        configured = life is not None and life.configured
        return {
            "kind": self._server.kind,
            "up": posture is not None,
            "ready": posture is not None and not reason,
            "reason": self._shown(reason),
            "reasons": [
                *([] if configured or posture is None else [OTHER_CONFIGURATION]),
                *([short] if (short := self._server.shortage()) else []),
                *([TAKEN] if self.closed else []),
                *([STOPPED_BY_A_MEMBER] if self._server.shut_out.anybody(self._monotonic()) else []),
            ],
            "auth": self._options.mode.value if configured else "unknown",
            "operator": bool(self._options.operators),
            "restarts": self._restarts,
            "version": posture.version if posture else None,
            "listen": posture.listen if posture else None,
            "jetstream": posture is not None and posture.jetstream,
            "durable": posture is not None and posture.durable,
            "sync_interval": posture.sync_interval if posture else None,
            "stored": posture.stored if posture else None,
            "most_stored": posture.most_stored if posture else None,
            "reserve": life is not None and life.reserve is not None,
            "tls": posture is not None and posture.tls,
            "tls_until": posture.tls_until if posture else None,
            "websocket": posture.websocket if posture else None,
            "cluster": life.cluster.view if life is not None and life.cluster is not None else None,
            "connections": life.connections if life else 0,
            "loss": self._shown(self._marker.loss),
            "deliveries": len(life.deliveries) if life and life.deliveries else 0,
        }

    def _shown(self, words: str | None) -> str | None:
        """`words` for anybody who asks: without where on the machine it is."""
        return words.replace(str(self._options.data_dir), "the data directory") if words else None

    @property
    def closed(self) -> bool:
        """Whether messages and blobs have taken all room but what is kept for records."""
        return self._life is not None and self._life.reserve is not None and self._life.reserve.closed

    async def core_dial(self) -> Client:
        """A new connection to this node's server in the account of JetStream, for the caller to close.

        It does not reconnect, and breaks when the server goes. Raises BusUnavailable.
        """
        return await self._alive().dial()

    async def announce(self, users: Collection[str], log: str, sequence: int, digest: str) -> None:
        """Tell `users` that `log` has a new head."""
        body = dump_json({"log": log, "sequence": sequence, "hash": digest})
        if self._life is not None:
            for user in users:
                await self._life.announce(subjects.events(user), body)

    async def withdraw(self, user: str, room: str) -> None:
        """Take `room` from `user`; nothing of it is delivered or taken when this returns."""
        if self._life is not None:
            await self._life.cut(user, room)

    async def took_effect(self, log: str, position: int, taken: Collection[Taken]) -> None:
        """See `services.ports.BusEffects`. A node alone has nobody to ask."""
        if self._fellows is not None:
            await self._fellows.took_effect(log, position, taken)

    async def retain(self, room: str, seconds: int | None, size: int | None) -> None:
        """Drop what the room no longer keeps; what fails is logged, and comes round again."""
        if self._life is None:
            return
        try:
            await self._life.retain(room, seconds, size)
        except BusUnavailable as error:
            self._log.warning("a room's old messages were not dropped", room=room, reason=error.message)

    async def keep_on(self, replicas: int) -> None:
        """See `services.ports.ClusterPlace`."""
        await self._alive().keep_on(replicas)

    async def give_up(self, node: str) -> None:
        """See `services.ports.ClusterPlace`."""
        await self._alive().give_up(node)

    async def drop(self, room: str) -> int:
        """See `services.ports.MessageDrop`."""
        return await self._alive("the messages cannot be dropped now").drop(room)

    async def snapshot(self, path: Path) -> StreamState:
        """See `services.ports.MessageCopies`."""
        return await self._alive("the messages cannot be copied now").snapshot(path)

    async def holds(self, state: StreamState) -> bool:
        """See `services.ports.MessagesPlace`."""
        return await self._alive("the messages cannot be looked at now").holds(state)

    async def take_in(self, path: Path, state: StreamState) -> None:
        """See `services.ports.MessagesPlace`."""
        await self._alive("the messages cannot be taken in now").take_in(path, state)

    async def cut(self, user: str) -> None:
        """Cut `user` off; none of its connections and deliveries is alive when this returns."""
        if self._life is not None:
            await self._life.cut(user)
        self._server.shut_out.forget(user)  # revoked: nothing more need keep them out

    def _alive(self, otherwise: str = "nats-server is not there") -> Life:
        """The life of now. Raises BusUnavailable, which begins with `otherwise`, while there is none."""
        if self._life is None:
            raise BusUnavailable(f"{otherwise}: {self._reason}")
        return self._life

    async def _begin(self, around: Surroundings) -> Life:
        self._life = life = Life(around)
        try:
            await life.begin()
        except BaseException:
            self._life = None
            await life.end()
            raise
        self._reason = ""
        return life

    async def _keep_alive(self, around: Surroundings, life: Life | None) -> None:
        """Start a new life whenever one is over, with growing pauses while they are short."""
        backoff = Backoff()
        began = time.monotonic()
        while True:
            if life is not None:
                self._reason = await asyncio.shield(life.over)
                self._log.error("nats-server is down", reason=self._reason)
                await life.end()
                if life.refusal is not None:
                    raise life.refusal
            backoff = backoff.after(time.monotonic() - began)
            await asyncio.sleep(backoff.wait(self._jitter()))
            began = time.monotonic()
            self._restarts += 1
            try:
                life = await self._begin(around)
                self._log.info("nats-server is back", restarts=self._restarts)
            except (BusUnavailable, StartRefused) as error:
                if isinstance(error, StartRefused) and backoff.failures >= GIVE_UP_AFTER:
                    raise
                life = None
                self._reason = error.message
                self._log.error("nats-server does not come back", reason=error.message)

    def _keeper_ended(self, keeper: asyncio.Task[None]) -> None:
        with contextlib.suppress(asyncio.InvalidStateError):
            if not keeper.cancelled() and (error := keeper.exception()) is not None:
                self._reason = "the bus itself failed: restart the daemon"
                self.failed.set_exception(error)


async def _unheard(_operator: str, _host: str, _stream: str, _replicas: int) -> None:
    """Nobody wants to hear of it."""
