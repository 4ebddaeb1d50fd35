"""What several nodes say of themselves, side by side: the table that a person reads, and what is wrong with it.

Pure: `/healthz` answers in, rows and faults out. A node that does not answer, or leaves something out, is at fault:
silence is never taken for being well.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Health = Mapping[str, Any]

HEAD = ("node", "status", "auth", "acl", "tls", "routes", "store", "copies", "leader", "quorum", "lag", "version")

_SAME = {
    "version": ("version",),
    "auth": ("bus_auth",),
    "acl": ("acl",),
    "tls": ("tls",),
    "route tls": ("route_tls",),
    "store": ("store", "engine"),
    "durability": ("store", "durable"),
    "copies": ("store", "replicas"),
    "cluster": ("cluster", "name"),
    "nats-server": ("bus", "version"),
}
"""What has to be the same on all nodes, and where it stands in a health answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One node as it was asked: at which `url`, and either its `health` or why there is none."""

    url: str
    health: Health | None
    silence: str = ""

    @property
    def name(self) -> str:
        """What the node calls itself; where it was asked, if it did not answer."""
        return str(self.health.get("node", self.url)) if self.health is not None else self.url


def row(asked: Asked) -> tuple[str, ...]:
    """The node's line under `HEAD`."""
    found = asked.health
    if found is None:
        return (asked.name, "silent", *["-"] * (len(HEAD) - 2))
    return (
        asked.name,
        str(found.get("status", "-")),
        str(found.get("bus_auth", "-")),
        _word(found.get("acl")),
        _word(found.get("tls")),
        _word(found.get("route_tls")),
        _word(_at(found, "store", "engine")),
        _word(_at(found, "store", "replicas")),
        _word(_at(found, "store", "leader")),
        _word(_at(found, "store", "quorum")),
        _word(_at(found, "store", "lag")),
        _word(found.get("version")),
    )


def faults(nodes: Sequence[Asked]) -> list[str]:
    """Everything that is not as it must be, a line each; empty when all nodes are enforce, acl and tls and agree."""
    return [*(fault for node in nodes for fault in _own_faults(node)), *_differences(nodes), *_namesakes(nodes)]


def _own_faults(asked: Asked) -> Iterator[str]:
    found, name = asked.health, asked.name
    if found is None:
        yield f"{name}: {asked.silence}"
        return
    if found.get("bus_auth") != "enforce":
        yield f"{name}: bus auth is {found.get('bus_auth')}, not enforce"
    if found.get("acl") is not True:
        yield f"{name}: subjects are not limited to members (acl)"
    if found.get("tls") is not True:
        yield f"{name}: clients are not served over tls"
    if _at(found, "store", "engine") == "kv":
        if found.get("cluster") and found.get("route_tls") is not True:
            yield f"{name}: the routes between the nodes have no mutual tls"
        if _at(found, "store", "quorum") is not True:
            yield f"{name}: there is no quorum"
    reasons = found.get("reasons") or ()
    yield from (f"{name}: {reason}" for reason in reasons)
    if found.get("status") != "ok" and not reasons:
        yield f"{name}: it is {found.get('status')} and does not say why"


def _differences(nodes: Sequence[Asked]) -> Iterator[str]:
    there = [node for node in nodes if node.health is not None]
    for what, path in _SAME.items():
        values = {node.name: _word(_at(node.health or {}, *path)) for node in there}
        counted = Counter(values.values())
        if len(counted) < 2:
            continue
        usual, times = counted.most_common(1)[0]
        if times * 2 > len(there):
            yield from (f"{name}: {what} is {it}, on most nodes {usual}" for name, it in values.items() if it != usual)
        else:
            yield f"the nodes differ in {what}: {', '.join(f'{name} {it}' for name, it in values.items())}"


def _namesakes(nodes: Sequence[Asked]) -> Iterator[str]:
    names = Counter(node.name for node in nodes if node.health is not None)
    yield from (f"{count} addresses lead to a node called {name}" for name, count in names.items() if count > 1)


def _at(found: Health, *path: str) -> object:
    value: object = found
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _word(value: object) -> str:
    return {True: "yes", False: "no", None: "-"}[value] if value is None or isinstance(value, bool) else str(value)
