"""What the KV engine says of itself, from what its stream's leader says. Pure."""

from collections.abc import Mapping
from typing import Any

ENOUGH = 3
"""Replicas with which the loss of one node is survived."""
_SILENT = 5_000_000_000  # nanoseconds
_BEHIND = 100  # operations


def describe(
    info: Mapping[str, Any] | None, refusal: str | None, applied: int, *, durable: bool
) -> Mapping[str, object]:
    """The posture. `info` is JetStream's answer to STREAM.INFO, None if there was none; `refusal` why this node does
    not serve, None if it does.

    `lag` counts what the leader has and this node has not. `current_replicas` counts those that have everything at
    this moment. `reasons` says what is wrong, and is empty when nothing is: to be a few writes behind is not.
    """
    reasons = [refusal] if refusal else []
    if info is None:
        reasons += [] if refusal else ["the cluster's bucket of records does not answer"]
        return {"engine": "kv", "durable": durable, "quorum": False, "reasons": reasons}
    replicas = int(info["config"]["num_replicas"])
    cluster = info.get("cluster") or {}
    others = cluster.get("replicas") or []
    leader = cluster.get("leader") or None
    current = len([peer for peer in others if peer.get("current") and not peer.get("offline")]) + 1
    if missing := [str(peer["name"]) for peer in others if _missing(peer)]:
        reasons.append(f"replicas that are away or behind: {', '.join(sorted(missing))}")
    if (placed := len(others) + 1) < replicas and refusal is None:
        reasons.append(f"there are {placed} nodes to keep the records, which are to be on {replicas}: add a node")
    return {
        "engine": "kv",
        "durable": durable,
        "replicas": replicas,
        "current_replicas": current,
        "leader": leader,
        "quorum": refusal is None,
        "lag": max(0, int(info["state"]["last_seq"]) - applied),
        "ha": min(replicas, placed) >= ENOUGH,
        "reasons": reasons,
    }


def _missing(peer: Mapping[str, Any]) -> bool:
    late = peer.get("active", 0) > _SILENT or peer.get("lag", 0) > _BEHIND
    return bool(peer.get("offline")) or (late and not peer.get("current"))
