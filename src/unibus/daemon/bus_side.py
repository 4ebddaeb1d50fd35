"""From the daemon's options to the bus's, where clients find it, and what it decided into the audit trail.

Part of the one place that wires the daemon. Must never name somebody as an actor who has not proven to be it.
"""

import os

from unibus.bus.cluster import Cluster
from unibus.bus.options import BusAuth, BusOptions, External
from unibus.bus.tls import BusTls
from unibus.daemon.bus_keys import bus_keys
from unibus.daemon.options import Options
from unibus.errors import RateLimited, UnibusError
from unibus.http.api import NatsPlace
from unibus.http.metrics import Metrics
from unibus.services.audit import ACTOR, NOBODY, ORIGIN, Audit
from unibus.services.books import Books


def bus_options(options: Options, tls: BusTls | None, routes: BusTls | None) -> BusOptions:
    """What the bus is told; `tls` and `routes` are what it shows to clients and to other nodes."""
    ws_host, ws_port = options.ws_bind or (None, 0)
    return BusOptions(
        data_dir=options.data_dir,
        host=options.nats_host,
        port=options.nats_port,
        mode=BusAuth(options.bus_auth),
        binary=options.nats_server,
        node=options.node_name,
        tls=tls,
        ws_host=ws_host,
        ws_port=ws_port,
        cluster=_cluster(options, routes),
        external=_external(options),
        connections=options.nats_limits.connections,
        max_store=options.nats_limits.store,
        operators=options.nats_operators,
        records=options.store == "kv" and options.nats_url is None,
    )


def _cluster(options: Options, routes: BusTls | None) -> Cluster | None:
    found = options.cluster
    if found is None:
        return None
    host, port = found.bind
    return Cluster(found.name, host, port, found.peers, found.secret, options.replicas, routes)


def _external(options: Options) -> External | None:
    url = options.nats_url
    if url is None:
        return None
    return External(url.host, url.port, bus_keys(options.data_dir, os.urandom), url.secure, url.ca)


def nats_place(options: Options, port: int, ws_port: int | None) -> NatsPlace:
    """Where clients find the data plane, which listens on these ports unless it is somebody else's."""
    if (url := options.nats_url) is not None:
        # A server beside the daemon is for clients beside the daemon: they reach it as they reach this node.
        return NatsPlace(None if url.local else url.host, url.port, url.secure)
    return NatsPlace(None, port, options.tls is not None, ws_port)


class BusTrail:
    """Notes connections and deliveries that the bus refused. `mode` is the daemon's `--bus-auth`."""

    def __init__(self, audit: Audit, metrics: Metrics, books: Books, mode: str) -> None:
        self._audit = audit
        self._metrics = metrics
        self._books = books
        self._mode = mode

    def decided(self, user: str, host: str, error: UnibusError | None) -> None:
        """See `services.ports.Decided`."""
        self._metrics.bus_decided(error.code if error else "ok")
        if error is None:
            return
        ORIGIN.set(host)
        proven = ACTOR.get()
        self._refused("bus.connect", error, proven, None, (user[:64] or None) if proven == NOBODY else None)

    def undelivered(self, user: str, room: str | None, error: UnibusError) -> None:
        """See `services.ports.Undelivered`."""
        if error.status >= 500:
            return  # the bus's own trouble, and no refusal
        if self._mode == "enforce":
            self._refused("bus.deliver", error, user, room, None)
        else:  # anybody may ask in anybody's name
            self._refused("bus.deliver", error, NOBODY, room, user[:64])

    async def scaled(self, operator: str, host: str, stream: str, replicas: int) -> None:
        """See `services.ports.Scaled`."""
        ORIGIN.set(host)
        await self._audit.done("bus.scale", actor=operator, target=stream, replicas=replicas)

    def cut_off(self, user: str) -> None:
        """Note that `user` sent too much and was cut off for a while."""
        self._metrics.bus_cut_offs.inc()
        self._refused("bus.send", RateLimited("sent too much, and is kept out for some seconds"), user, None, None)

    def _refused(self, action: str, error: UnibusError, actor: str, room: str | None, claimed: str | None) -> None:
        stranger = not self._books.directory.active(actor)
        self._audit.refused(action, error, actor=actor, target=room, stranger=stranger, claimed=claimed)
