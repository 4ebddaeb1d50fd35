"""What the nodes of a cluster tell each other every second, and what follows from it. Pure.

A node under a name that is taken, or under other rules than the rest, must not serve: a member would be cut off by one
node and let in by the next. Must never put a secret, or the name of a user, into what is told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from unibus.crypto.encoding import dump_json

ALIVE = 5.0
"""Seconds for which a node counts as alive after it was last heard."""


class Rules(BaseModel):
    """What has to be the same on all nodes. `protocol` changes when nodes of two versions must not serve together."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    protocol: int = 1
    cluster: str | None
    bus_auth: str
    tls: bool
    route_tls: bool


class Beat(BaseModel):
    """One node's sign of life. `instance` is random and new at each start; `url` is where clients reach the node.

    `now` is the node's own clock, in Unix seconds.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    instance: str
    version: str
    rules: Rules
    url: str | None = None
    draining: bool = False
    now: float = 0.0

    def encoded(self) -> bytes:
        """As it is told."""
        return dump_json(self.model_dump())


@dataclass(frozen=True, slots=True)
class Heard:
    """A node as it was last heard: how many seconds ago by the cluster's own clock, and what it said, if understood.

    `ahead` is by how many seconds its clock went before the cluster's then.
    """

    name: str
    ago: float
    beat: Beat | None
    ahead: float = 0.0

    @property
    def alive(self) -> bool:
        """Whether it was heard of late."""
        return self.ago <= ALIVE


def hear(told: Mapping[str, tuple[bytes, float]], now: float) -> list[Heard]:
    """The nodes in `told` (what each said, and when), sorted; `now` is by the same clock, in seconds."""
    found = []
    for name, (value, at) in sorted(told.items()):
        beat = _read(value)
        found.append(Heard(name, max(0.0, now - at), beat, beat.now - at if beat else 0.0))
    return found


def clock_off(heard: Sequence[Heard], own: str) -> float:
    """By how many seconds this node's clock goes before the usual one of those alive; negative if it is behind.

    Of an even number of clocks the usual one is between the two in the middle, so that of two nodes neither is right.
    """
    from statistics import median  # here: a node alone has no use for it

    clocks = {node.name: node.ahead for node in heard if node.alive and node.beat is not None}
    return clocks[own] - median(clocks.values()) if own in clocks else 0.0


def namesake(heard: Sequence[Heard], own: str, instance: str) -> str | None:
    """Why this node, whose process is `instance`, must not serve under its name; None if nobody else bears it.

    There is one last word under a name. That it is another's, though this process speaks too, shows the other alive.
    """
    for node in heard:
        if node.name == own and node.beat is not None and node.beat.instance != instance:
            return f"another node of this cluster is called {own}: give each its own --node-name"
    return None


def disagreement(heard: Sequence[Heard], own: str, rules: Rules) -> str | None:
    """What this node would do by other rules than those that are there; None if they agree."""
    for node in heard:
        if node.name == own or not node.alive or node.beat is None:
            continue
        theirs, ours = node.beat.rules.model_dump(), rules.model_dump()
        for name, value in ours.items():
            if theirs[name] != value:
                what = name.replace("_", " ")
                return f"{what} is {_word(value)} here and {_word(theirs[name])} on {node.name}: make them agree"
    return None


def shown(heard: Sequence[Heard]) -> list[dict[str, object]]:
    """The nodes as `/healthz` shows them."""
    return [
        {
            "name": node.name,
            "alive": node.alive,
            "heard": round(node.ago, 1),
            "version": node.beat.version if node.beat else None,
            "draining": node.beat.draining if node.beat else None,
        }
        for node in heard
    ]


def urls(heard: Sequence[Heard]) -> list[str]:
    """Where clients reach the nodes that are there to stay."""
    found = {node.beat.url for node in heard if node.alive and node.beat and node.beat.url and not node.beat.draining}
    return sorted(found)


def _read(value: bytes) -> Beat | None:
    try:
        return Beat.model_validate_json(value)
    except ValidationError:
        return None


def _word(value: object) -> str:
    return {True: "on", False: "off", None: "none"}[value] if value is None or isinstance(value, bool) else str(value)
