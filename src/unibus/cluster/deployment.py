"""What a deployment does, node by node: a pure function of what is here, what is there, and how the cluster is.

Must never plan a change of a node while the others have no quorum, nor a start: that is a person's, or `rolling`'s.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from unibus.cluster.bundle import PYTHONS
from unibus.cluster.health import NodeHealth, can_lose
from unibus.cluster.hosts import HostFacts
from unibus.cluster.nodes import Cluster, ClusterNode
from unibus.errors import Forbidden


class What(StrEnum):
    """The kinds of steps; each changes the node."""

    SEND_BUNDLE = "send the bundle"
    SEND_FILES = "send its files"
    INSTALL = "install"


@dataclass(frozen=True, slots=True)
class Step:
    """One step on one node. `names` are what is sent."""

    node: ClusterNode
    what: What
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Local:
    """What is here: the bundle's id, and each node's SHA-256 digests by the names that `HostFacts.sums` has, too."""

    bundle: str
    sums: Mapping[str, Mapping[str, str]]


def plan(
    cluster: Cluster,
    local: Local,
    remote: Mapping[str, HostFacts],
    health: Mapping[str, NodeHealth],
    *,
    only: Collection[str] = (),
    stopped: bool = False,
) -> list[Step]:
    """The steps for all nodes, or `only` for some. Raises Forbidden with every reason not to take them.

    Who is not in `remote` does not answer ssh. `stopped` is a person's word that the cluster is stopped on purpose.
    """
    steps: list[Step] = []
    reasons: list[str] = []
    for node in cluster.nodes:
        if only and node.name not in only:
            continue
        if node.name not in remote:
            reasons.append(f"{node.name} does not answer ssh: see to it, or name the others with --node")
            continue
        wanted = _steps(node, local, remote[node.name])
        if wanted:
            reasons += _unfit(node, remote[node.name])
            if why := _guard(cluster, node, remote, health, stopped=stopped):
                reasons.append(f"{node.name}: {why}")
        steps += wanted
    if reasons:
        raise Forbidden("; ".join(reasons))
    return steps


def _steps(node: ClusterNode, local: Local, facts: HostFacts) -> list[Step]:
    steps = []
    if facts.release != local.bundle:
        steps.append(Step(node, What.SEND_BUNDLE))
    changed = tuple(name for name, digest in local.sums[node.name].items() if facts.sums.get(name) != digest)
    if not steps and not changed:
        return []
    return [*steps, Step(node, What.SEND_FILES, changed), Step(node, What.INSTALL)]


def _unfit(node: ClusterNode, facts: HostFacts) -> list[str]:
    found = []
    if facts.machine != "x86_64":
        found.append(f"{node.name} is a {facts.machine or 'machine of unknown kind'}: the bundle is for x86_64")
    if facts.python not in PYTHONS:
        found.append(f"{node.name} has python {facts.python or 'none'}: it needs one of {', '.join(PYTHONS)}")
    if not facts.venv:
        found.append(f"{node.name} cannot make python environments: install python3-venv there")
    return found


def _guard(
    cluster: Cluster,
    node: ClusterNode,
    remote: Mapping[str, HostFacts],
    health: Mapping[str, NodeHealth],
    *,
    stopped: bool,
) -> str:
    """Why the node must not be changed now, or ""."""
    answering = sorted(name for name, one in health.items() if one.answers)
    if stopped:
        return f"the cluster is not stopped: {', '.join(answering)} answer" if answering else ""
    never_ran = all(one.name in remote and not remote[one.name].data for one in cluster.nodes)
    if (never_ran and not answering) or can_lose(cluster, [node.name], health):
        return ""
    return (
        "the cluster lacks quorum without it: bring the other nodes up first, "
        "or stop them all and say so with --cluster-is-stopped"
    )
