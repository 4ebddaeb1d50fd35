"""From the daemon's options to the bus's, and where clients find it. Part of the one place that wires the daemon."""

import os

from unibus.bus.cluster import Cluster
from unibus.bus.options import BusAuth, BusOptions, External
from unibus.bus.tls import BusTls
from unibus.daemon.bus_keys import bus_keys
from unibus.daemon.options import Options
from unibus.http.api import NatsPlace


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
