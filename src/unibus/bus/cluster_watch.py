"""Looks at the cluster through one node's own server, again and again: makes the stream, notices what is missing.

A cluster without a quorum is a state and no failure: the server runs on, says why it does not serve, and serves again
by itself. Must never end anything but deliveries that lost their daemon.
"""

import asyncio
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from unibus.bus import cluster_view, stream
from unibus.bus.cluster import Cluster
from unibus.bus.cluster_view import Copies
from unibus.bus.links import Links
from unibus.bus.mark import Marker
from unibus.bus.options import BusOptions
from unibus.bus.orphans import sweep
from unibus.bus.posture import Posture, leading
from unibus.errors import BusUnavailable
from unibus.model.subjects import STREAM
from unibus.tasks import end_tasks

RECORDS = "KV_unibus"
"""The stream behind the records' bucket, which the store makes."""
BLOBS = "OBJ_unibus-blobs"
"""The stream behind the blobs' bucket, which the store makes with the first of them."""
EVERY = 1.0
"""Seconds between two looks."""
_ANSWER_WITHIN = 2.0


class ClusterWatch:
    """`reason` is why the cluster does not serve now, empty if it does; `view` is what `/healthz` shows of it.

    `peers` are the names of the other servers that are there. `ended` hears of the deliveries that were ended.
    """

    def __init__(
        self,
        links: Links,
        options: BusOptions,
        cluster: Cluster,
        marker: Marker,
        log: FilteringBoundLogger,
        ended: Callable[[str], None],
    ) -> None:
        self._links = links
        self._marker = marker
        self._cluster = cluster
        self._options = options
        self._log = log
        self._ended = ended
        self._made = self._marked = False
        self._swept: frozenset[str] = frozenset()
        self._sweeping: asyncio.Task[None] | None = None
        self.reason = "waiting for the cluster"
        self.view: dict[str, object] = {}
        self.peers: tuple[str, ...] = ()

    async def look(self, posture: Posture) -> None:
        """Look once, and do what can be done now. Raises BusUnavailable when our own server does not answer."""
        routes = posture.routes
        if routes is None:
            raise BusUnavailable("nats-server is in no cluster, though it was told to be")
        peers = cluster_view.read_peers(await self._links.server(f"{posture.server}.ROUTEZ"))
        streams: dict[str, Copies] = {}
        reason = cluster_view.hindrance(routes, peers, len(self._cluster.peers) + 1)
        try:
            if not reason:
                streams = await self._streams()
                reason = cluster_view.unkept(streams.get(STREAM))
            if not reason:
                await (self._marker.note if self._marked else self._marker.begin)(self._links)
                self._marked = True
        except BusUnavailable as error:
            reason = f"waiting for the cluster: {error.message}"
        self._note(reason)
        self.view = cluster_view.shown(routes, peers, streams)
        self.peers = tuple(peer.name for peer in peers)
        alive = frozenset((posture.server, *(peer.server for peer in peers)))
        if not self.reason and alive != self._swept and (self._sweeping is None or self._sweeping.done()):
            self._sweeping = asyncio.create_task(self._sweep(alive, routes.leader), name="deliveries sweep")

    @property
    def served(self) -> bool:
        """Whether the cluster has ever served since this server's start."""
        return self._made

    async def close(self) -> None:
        """Stop ending deliveries."""
        await end_tasks(self._sweeping)

    async def _streams(self) -> dict[str, Copies]:
        if not self._made:
            options = self._options
            await stream.ensure(self._links, options.max_payload, self._cluster.replicas, bounded=options.records)
            self._made = True
        found = {}
        for name in (STREAM, RECORDS, BLOBS):
            info = await self._links.jetstream(f"STREAM.INFO.{name}", within=_ANSWER_WITHIN)
            if info is not None:
                found[name] = cluster_view.read_copies(info)
        return found

    async def _sweep(self, alive: frozenset[str], leader: str | None) -> None:
        """Once in the beginning, and whenever servers have come or gone."""
        try:
            ended = await sweep(self._links, alive)
            if await leading(self._links, self._options.node) != leader:
                return  # who has no leader tells of what it has itself
        except BusUnavailable as error:
            self._log.info("deliveries without a daemon are still to be ended", reason=error.message)
            return
        self._swept = alive
        for token in ended:
            self._ended(token)
        if ended:
            self._log.info("deliveries without a daemon were ended", count=len(ended))

    def _note(self, reason: str) -> None:
        if reason != self.reason:
            say = self._log.warning if reason else self._log.info
            say("the cluster does not serve" if reason else "the cluster serves", reason=reason or None)
        self.reason = reason
