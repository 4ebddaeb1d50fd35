"""The routes between the servers of a cluster, as nats-server is told of them. Values and pure rendering.

The secret that opens a route appears in the rendered block alone, which stands in a file for the daemon's user only.
Must never show it in a repr, an error or a log.
"""

from dataclasses import dataclass, field
from urllib.parse import quote

from unibus.bus.tls import BusTls
from unibus.model import subjects

ROUTE_USER = "unibus"
"""What servers call themselves to each other; the secret is what tells."""
REPLICAS = (1, 3, 5)
"""On how many nodes something can be kept: an even number outlives no more than the odd one below it."""
TIMEOUT = 5
"""Seconds that a peer has for the handshake, and again to show the secret: a machine that starts may be busy."""
PING_EVERY, PINGS = "5s", 3
"""A route that gives no answer for 15 to 20 s is closed. With nats-server's own 60 to 90 s, a dead one stands in the
way of the new one long after a partition, and a node without power is taken for alive. A node that hangs for 10 s, or
answers behind what queues up on a slow link, is not cut off."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """`name` is the same on all nodes; `peers` are host and port of other nodes' routes, as many as are known.

    `port` 0 takes a free one. `replicas` is how many nodes keep each message, said when the stream is made. `tls` holds
    the route certificate with its key and the authorities of the routes; None is for loopback only.
    """

    name: str
    host: str
    port: int
    peers: tuple[tuple[str, int], ...]
    secret: str = field(repr=False)
    replicas: int = 3
    tls: BusTls | None = None

    def settings(self) -> dict[str, object]:
        """nats-server's `cluster` block.

        Clients hear nothing of the other servers from it (`no_advertise`): the control plane tells them whom to ask.
        """
        login = f"{ROUTE_USER}:{quote(self.secret, safe='')}"
        block: dict[str, object] = {
            "name": self.name,
            "host": self.host,
            "port": self.port or -1,
            "no_advertise": True,
            "ping_interval": PING_EVERY,
            "ping_max": PINGS,
            "authorization": {"user": ROUTE_USER, "password": self.secret, "timeout": TIMEOUT},
            "routes": [f"nats-route://{login}@{_place(host, port)}" for host, port in self.peers],
        }
        if self.tls is not None:
            block["tls"] = {**self.tls.settings(), "timeout": TIMEOUT}
        return block


@dataclass(frozen=True, slots=True)
class Seat:
    """A daemon's place in a cluster: its node's name, and the id (`N…`) that its server has in this life."""

    node: str
    server: str


def own_control(node: str | None) -> str:
    """The subject in CORE on which the daemon of `node` hears its members' requests for deliveries.

    In a cluster all daemons share CORE. Each server writes its own name into what its own members ask, so that the one
    daemon that decides about their connections decides about their deliveries too. None: there is one daemon.
    """
    asked = subjects.control("*", subjects.DELIVER)
    return asked if node is None else f"ctl.{node}.{asked.removeprefix('ctl.')}"


def door(node: str | None) -> str:
    """The subjects in CORE on which the daemon of `node` hears what operators' tools ask of JetStream.

    As with `own_control`, each server writes its own name into what is asked at it. None: there is one daemon.
    """
    return f"ops.{node or 'alone'}.>"


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
