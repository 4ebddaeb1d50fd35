"""Health and readiness as functions of what the parts say: a node that is degraded is mostly still ready to serve."""

from typing import Any

import pytest

from unibus.http.health import health, unready

NOW = 1_800_000_000.0
WELL = {"ready": True, "durable": True, "auth": "enforce", "reason": None, "stored": 1, "most_stored": 100}
STORE = {"engine": "kv", "durable": True}


def shown(**more: Any) -> dict[str, Any]:
    said = {"store": STORE, "bus": WELL, "nodes": None, "tls": None, **more}
    return health(node="n1", version="1", uptime=1.0, founded=True, now=NOW, **said)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"nodes": {"nodes": [], "reasons": ["node n3 was last heard 9 s ago"]}}, "node n3"),
        ({"tls": {"version": "TLSv1.3", "expires": NOW + 3 * 86400, "reasons": []}}, "the certificate expires on"),
        ({"bus": {**WELL, "stored": 95}}, "let rooms keep less"),
        ({"store": {**STORE, "durable": False}}, "power cut"),
    ],
    ids=["a peer is dead", "a certificate ends soon", "nine tenths are full", "not durable"],
)
def test_what_an_operator_should_mend_is_no_reason_to_send_clients_away(more: dict[str, Any], told: str) -> None:
    found = shown(**more)
    assert found["status"] == "degraded"
    assert any(told in reason for reason in found["reasons"])
    assert unready(records=None, bus=more.get("bus", WELL)) == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"bus": {"ready": False, "reason": "nats-server ended"}}, "the bus is down: nats-server ended"),
        ({"records": "no quorum"}, "no quorum"),
        ({"joined": False}, "this node has not joined the others yet"),
        ({"draining": True}, "this node is about to end: use another one"),
        ({"clock": "this node's clock is 90 s ahead"}, "this node's clock is 90 s ahead"),
    ],
    ids=["bus", "records", "joining", "draining", "clock"],
)
def test_who_cannot_serve_is_not_ready_and_says_why(more: dict[str, Any], told: str) -> None:
    assert unready(**{"records": None, "bus": WELL, **more}) == [told]
