"""What one node sees of its cluster, from the answers of its own server. Pure: answers in, a view and a reason out.

Must never take a server's silence for consent: what was not answered is shown as not known, and not as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic import BaseModel, ValidationError

from unibus.bus.posture import Routes
from unibus.errors import BusUnavailable
from unibus.model.subjects import STREAM


class _Route(BaseModel):
    remote_id: str
    remote_name: str
    rtt: str = ""


class _RouteList(BaseModel):
    routes: list[_Route] = []


class _RouteAnswer(BaseModel):
    data: _RouteList


class _Replica(BaseModel):
    name: str
    current: bool = False
    offline: bool = False
    lag: int = 0


class _Group(BaseModel):
    leader: str = ""
    replicas: list[_Replica] | None = None


class _Settings(BaseModel):
    num_replicas: int


class _StreamAnswer(BaseModel):
    config: _Settings
    cluster: _Group = _Group()


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server that a route leads to now; `server` is its id (`N…`), `rtt` the round trip as it was measured."""

    name: str
    server: str
    rtt: str


@dataclass(frozen=True, slots=True)
class Copies:
    """The copies of one stream: on how many servers it is to be, who leads, and which others are `behind`.

    `lag` is by how many writes the last of those that answer is. Without a leader nobody can say, and all are behind.
    """

    replicas: int
    leader: str | None
    behind: tuple[str, ...]
    lag: int

    @property
    def quorum(self) -> bool:
        """Whether there is somebody who can acknowledge a write."""
        return self.leader is not None


def read_peers(answer: Mapping[str, object]) -> tuple[Peer, ...]:
    """The servers in a ROUTEZ answer, each once. Raises BusUnavailable."""
    try:
        routes = _RouteAnswer.model_validate(answer).data.routes
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of its routes is not understood") from error
    found = {route.remote_name: Peer(route.remote_name, route.remote_id, route.rtt) for route in routes}
    return tuple(found[name] for name in sorted(found))


def read_copies(answer: Mapping[str, object]) -> Copies:
    """The copies of the stream in a STREAM.INFO answer. Raises BusUnavailable."""
    try:
        found = _StreamAnswer.model_validate(answer)
    except ValidationError as error:
        raise BusUnavailable("nats-server's description of a stream is not understood") from error
    group, others = found.cluster, found.cluster.replicas or []
    behind = [other for other in others if not group.leader or not other.current or other.offline]
    return Copies(
        replicas=found.config.num_replicas,
        leader=group.leader or None,
        behind=tuple(sorted(other.name for other in behind)),
        lag=max((other.lag for other in others), default=0),
    )


def hindrance(routes: Routes, peers: Sequence[Peer], known: int) -> str:
    """Why the servers cannot agree on anything now, in a few words; empty if they can.

    `known` is how many servers the operator named, with this one.
    """
    size, there = max(routes.size, known), len(peers) + 1
    # A leader that has lost the others takes seconds to notice; its routes end before.
    if there < max(routes.needed, size // 2 + 1):
        return f"waiting for the cluster: {there} of {size} nodes"
    if routes.leader is None:
        return f"waiting for the cluster: its {size} nodes are choosing a leader"
    return ""


def unkept(messages: Copies | None) -> str:
    """Why no message can be kept now, in a few words; empty if one can. None stands for a stream that is not there."""
    if messages is None:
        return "waiting for the cluster: it has no stream of messages yet"
    if not messages.quorum:
        return f"waiting for the cluster: too few of the {messages.replicas} nodes that keep the messages are there"
    return ""


def shown(routes: Routes, peers: Sequence[Peer], streams: Mapping[str, Copies]) -> dict[str, object]:
    """The view as `/healthz` shows it. `streams` are those that were told of; without any there is no quorum."""
    return {
        "name": routes.cluster,
        "size": routes.size,
        "leader": routes.leader,
        "quorum": bool(streams) and all(copies.quorum for copies in streams.values()),
        "ha": STREAM in streams and all(copies.replicas >= 3 for copies in streams.values()),
        "route_tls": routes.tls,
        "route_tls_until": routes.tls_until,
        "peers": [asdict(peer) for peer in peers],
        "streams": {name: {**asdict(copies), "quorum": copies.quorum} for name, copies in streams.items()},
    }
