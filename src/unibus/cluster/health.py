"""What the nodes say of themselves at `/healthz`, and whether the cluster can lose one of them now.

What an answer holds is judged, never trusted to be well formed; its certificate has to be the client authority's. Must
never take silence, or an answer that says nothing about quorum, for one that has it.
"""

import http.client
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from unibus.cluster.nodes import Cluster, ClusterNode, bracketed
from unibus.crypto.encoding import load_json
from unibus.errors import InvalidInput

DEADLINE = 5.0
"""Seconds that a node has to answer."""
_LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """`answers`: something with the right certificate did; `ok` and `quorum`: it says so; `reasons`: why not."""

    answers: bool = False
    ok: bool = False
    quorum: bool = False
    reasons: tuple[str, ...] = ()


def judge(status: int, body: bytes) -> NodeHealth:
    """What an HTTP answer to GET /healthz means."""
    try:
        told = load_json(body)
        reasons = tuple(map(str, told["reasons"]))  # type: ignore[index]  # what it is not, is caught
        store = told["store"]  # type: ignore[index]  # likewise
        quorum = store["engine"] == "kv" and store["quorum"] is True
        ok = status == 200 and told["status"] == "ok"  # type: ignore[index]  # likewise
    except (InvalidInput, KeyError, TypeError):
        return NodeHealth(answers=True, reasons=("its answer is not that of a node of a cluster",))
    return NodeHealth(answers=True, ok=ok, quorum=quorum, reasons=reasons)


def ask(cluster: Cluster, node: ClusterNode, authority: Path, deadline: float = DEADLINE) -> NodeHealth:
    """Ask a node for its health over its public address. Never raises for what the network or the node does."""
    context = ssl.create_default_context(cafile=authority)
    host = str(node.public)
    connection = http.client.HTTPSConnection(host, cluster.http_port, timeout=deadline, context=context)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return judge(answer.status, answer.read(_LARGEST))
    except (OSError, http.client.HTTPException) as error:
        where = f"{bracketed(node.public)}:{cluster.http_port}"
        return NodeHealth(reasons=(f"{where} does not answer: {str(error) or type(error).__name__}",))
    finally:
        connection.close()


def can_lose(cluster: Cluster, names: Iterable[str], health: Mapping[str, NodeHealth]) -> bool:
    """Whether the others hold a quorum, all of them saying so, without the nodes in `names`."""
    leaving = set(names)
    others = [node.name for node in cluster.nodes if node.name not in leaving]
    holding = [name for name in others if health.get(name, NodeHealth()).quorum]
    # Of two nodes neither can be lost; what can be asked is that the other one is well.
    return len(holding) >= min(cluster.majority, len(others))
