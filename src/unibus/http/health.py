"""How this node is, for anybody who asks: `/healthz`, `/livez`, `/readyz`. Never a secret, never the name of a user.

Health is a pure function of what the store and the bus say of themselves. Nothing here repeats a setting; what is shown
was read back. Ready means that clients can be served here and now, which a node that is degraded mostly can: a balancer
that goes by readiness must not drop all nodes because one of them is dead. Live means that the event loop turns.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from unibus.http.operations import Answer, Asker, Operation
from unibus.model.wire import HealthView

EXPIRES_SOON = 7 * 86_400
"""Seconds before its end at which a certificate should have been replaced."""
NEARLY_FULL = 0.9
Look = Callable[[], Awaitable[dict[str, Any]]]


def unready(
    *,
    records: str | None,
    bus: Mapping[str, Any],
    joined: bool = True,
    draining: bool = False,
    clock: str | None = None,
) -> list[str]:
    """Why nobody should be sent to this node now; empty when it is ready.

    `records` is why it cannot prove that its records are current and read, `clock` why it refuses signed requests; each
    None if all is well. `bus` is the bus's status; a node alone has `joined`.
    """
    return [
        *([records] if records else []),
        *([] if bus.get("ready") else [f"the bus is down: {bus.get('reason')}"]),
        *([] if joined else ["this node has not joined the others yet"]),
        *(["this node is about to end: use another one"] if draining else []),
        *([clock] if clock else []),
    ]


def health(
    *,
    node: str,
    version: str,
    uptime: float,
    founded: bool,
    store: Mapping[str, Any],
    bus: Mapping[str, Any],
    tls: Mapping[str, Any] | None = None,
    nodes: Mapping[str, Any] | None = None,
    route_trouble: str = "",
    now: float = 0.0,
) -> dict[str, Any]:
    """The posture, and `status` (`ok` or `degraded`) with its `reasons`. `uptime` is in seconds, `now` in Unix seconds.

    `tls` is what a handshake with the control plane has shown: `version`, `expires` (Unix seconds) and `reasons`.
    `nodes` is what is known of the cluster's other nodes, with its `reasons`; None on one node.
    """
    cluster = bus.get("cluster") or {}
    reasons = [
        *dict.fromkeys((*store.get("reasons", ()), *(tls or {}).get("reasons", ()), *(nodes or {}).get("reasons", ())))
    ]
    reasons += [route_trouble] if route_trouble else []
    ends = [end for end in ((tls or {}).get("expires"), bus.get("tls_until")) if end is not None]
    route_end = cluster.get("route_tls_until")
    for what, end in (("certificate", min(ends, default=None)), ("route certificate", route_end)):
        if end is not None and end - now < EXPIRES_SOON:
            state = "expires" if end > now else "has expired"
            reasons.append(f"the {what} {state} on {_day(end)}: renew it, then send the daemon SIGHUP")
    if not store.get("durable"):
        reasons.append("the store does not keep what it acknowledged through a power cut")
    if not bus.get("ready"):
        reasons.append(f"the bus is down: {bus.get('reason')}")
    elif not bus.get("durable"):
        reasons.append("the bus does not keep what it acknowledged through a power cut")
    if bus.get("ready") and (most := bus.get("most_stored")) and bus["stored"] > most * NEARLY_FULL:
        reasons.append(f"the bus has room for {most} bytes of messages and keeps {bus['stored']}: let rooms keep less")
    if bus.get("loss"):
        reasons.append(str(bus["loss"]))
    reasons += bus.get("reasons", ())
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "node": node,
        "version": version,
        "uptime": round(uptime, 1),
        "founded": founded,
        "bus_auth": bus["auth"],
        "acl": bus["auth"] == "enforce",
        "tls": tls is not None and tls["version"] is not None and bool(bus.get("tls")),
        "tls_expires": _day(min(ends)) if ends else None,
        "route_tls": cluster.get("route_tls"),
        "route_tls_expires": _day(route_end) if route_end is not None else None,
        "store": {key: value for key, value in store.items() if key != "reasons"},
        "bus": {key: value for key, value in bus.items() if key not in ("reasons", "cluster", "tls_until")},
        "cluster": {**cluster, "nodes": nodes["nodes"]} if nodes is not None and cluster else None,
    }


def health_operations(look: Look, hindrances: Callable[[], list[str]]) -> list[Operation]:
    """The three operations; `look` and `hindrances` gather what `health` and `unready` are made of and call them."""

    async def healthz(_request: web.Request) -> web.Response:
        """The node's health and its security posture, read back from what runs."""
        found = await look()
        return _answer(200 if found["status"] == "ok" else 503, json.dumps(found, indent=2), "application/json")

    async def readyz(_request: web.Request) -> web.Response:
        """Whether clients can be served by this node now; if not, why not. A degraded node may well be ready."""
        reasons = hindrances()
        return _answer(503 if reasons else 200, "\n".join(reasons) or "ready", "text/plain")

    async def livez(_request: web.Request) -> web.Response:
        """Whether the process turns."""
        return _answer(200, "live", "text/plain")

    well, ill = Answer(200, "all is well", HealthView), Answer(503, "degraded, with reasons", HealthView)
    ready, not_ready = Answer(200, "`ready`", "text/plain"), Answer(503, "the reasons, one a line", "text/plain")
    return [
        Operation("GET", "/healthz", healthz, Asker.ANYBODY, [well, ill], head=True),
        Operation("GET", "/readyz", readyz, Asker.ANYBODY, [ready, not_ready], head=True),
        Operation("GET", "/livez", livez, Asker.ANYBODY, [Answer(200, "`live`", "text/plain")], head=True),
    ]


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _answer(status: int, text: str, kind: str) -> web.Response:
    return web.Response(status=status, text=text + "\n", content_type=kind, headers={"Cache-Control": "no-store"})
