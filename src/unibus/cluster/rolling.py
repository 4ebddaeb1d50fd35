"""A roll: which node is started or restarted next, and when. Pure: what is seen goes in, one action comes out.

Nodes that do not run are started first, each once the one before answers: a start takes nothing from the others, and a
new cluster is not well before its last node is there. Then nodes are restarted, each once all are well again. Must
never take a running node down while the others hold no quorum, but for a new secret (`next_action`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from unibus.cluster.health import NodeHealth, can_lose
from unibus.cluster.hosts import HostFacts
from unibus.cluster.nodes import Cluster


@dataclass(frozen=True, slots=True)
class Start:
    """Start the node's service, also at every boot."""

    node: str


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart the node's service."""

    node: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again in a moment."""

    reason: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Go no further."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """All nodes run what is installed."""


Action = Start | Restart | Wait | Refuse | Finished


def next_action(
    cluster: Cluster,
    facts: Mapping[str, HostFacts],
    health: Mapping[str, NodeHealth],
    done: Sequence[str],
    *,
    everyone: bool = False,
    new_secret: bool = False,
) -> Action:
    """What to do now; `done` are the nodes that this roll has started or restarted, the last one last.

    With `everyone` nodes are restarted that run what is installed already. With `new_secret` nodes with the old one and
    nodes with the new one do not speak to each other: the restarted ones are a quorum of their own once they are a
    majority, and writes stand still from the restart that makes them so until they have elected a leader.
    """
    if lost := [node.name for node in cluster.nodes if not facts[node.name].installed]:
        return Refuse(f"nothing is installed on {', '.join(lost)}: deploy first")
    if done and not health.get(done[-1], NodeHealth()).answers:
        return Wait(f"{done[-1]} does not answer yet")
    if down := [node.name for node in cluster.nodes if not facts[node.name].started]:
        # What was started and does not run has ended again: its own log says why.
        ended = [name for name in down if name in done]
        return Refuse(f"{ended[0]} has ended: look into its log with journalctl") if ended else Start(down[0])
    if done and (reason := _unwell(cluster, health, done, new_secret=new_secret)):
        return Wait(reason)
    wanted = [node.name for node in cluster.nodes if everyone or new_secret or _old(facts[node.name])]
    left = [name for name in wanted if name not in done]
    if left and not can_lose(cluster, left[:1], health) and not (new_secret and done):
        return Refuse(f"the cluster lacks quorum without {left[0]}: bring the other nodes up first")
    return Restart(left[0]) if left else Finished()


def outline(
    cluster: Cluster, facts: Mapping[str, HostFacts], *, everyone: bool = False, new_secret: bool = False
) -> list[Start | Restart]:
    """What a roll comes to when every node gets well again."""
    facts = dict(facts)
    well = {node.name: NodeHealth(answers=True, ok=True, quorum=True) for node in cluster.nodes}
    steps: list[Start | Restart] = []
    while True:
        done = [step.node for step in steps]
        match next_action(cluster, facts, well, done, everyone=everyone, new_secret=new_secret):
            case (Start() | Restart()) as step:
                steps.append(step)
                facts[step.node] = replace(facts[step.node], started=facts[step.node].installed + 1)
            case _:
                return steps


def _old(facts: HostFacts) -> bool:
    """Whether something was installed since the service was started."""
    return facts.started <= facts.installed


def _unwell(cluster: Cluster, health: Mapping[str, NodeHealth], done: Collection[str], *, new_secret: bool) -> str:
    """Why no running node may be taken down now, or ""."""
    if new_secret and len(done) < cluster.majority:
        return ""  # nobody can be well who speaks to a minority
    apart = new_secret and len(done) < len(cluster.nodes)  # who has the new secret misses the others until the end
    for name in done if apart else (node.name for node in cluster.nodes):
        found = health.get(name, NodeHealth())
        if not found.quorum or not (found.ok or apart):
            return f"{name} is not well yet: {'; '.join(found.reasons) or 'no reason given'}"
    return ""
