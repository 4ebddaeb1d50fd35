"""`/healthz`: how this node is and how secure it really runs, for anybody who asks. Never a secret, never a name of a user.

The answer is made by a pure function of what the store and the bus say of themselves: 200 `ok`, or 503 `degraded` with
reasons. Nothing here repeats a setting; it shows what was read back.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web


def health(
    *,
    node: str,
    version: str,
    uptime: float,
    founded: bool,
    bus_auth: str,
    store: Mapping[str, Any],
    bus: Mapping[str, Any],
) -> dict[str, Any]:
    """The posture, and `status` with `reasons`. `uptime` is in seconds."""
    reasons = [*store.get("reasons", ()), *bus.get("reasons", ())]
    if store.get("durable") is False:
        reasons.append("the store does not keep what it acknowledged through a power cut")
    return {
        "status": "degraded" if reasons else "ok",
        "reasons": reasons,
        "node": node,
        "version": version,
        "uptime": round(uptime, 1),
        "founded": founded,
        "bus_auth": bus_auth,
        "acl": bus_auth == "enforce",
        "tls": False,
        "route_tls": None,
        "store": {key: value for key, value in store.items() if key != "reasons"},
        "bus": {key: value for key, value in bus.items() if key != "reasons"},
    }


def health_route(look: Callable[[], Awaitable[dict[str, Any]]]) -> web.RouteDef:
    """The route; `look` gathers and calls `health`."""

    async def healthz(_request: web.Request) -> web.Response:
        found = await look()
        return web.Response(
            status=200 if found["status"] == "ok" else 503,
            body=json.dumps(found, indent=2).encode() + b"\n",
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    return web.get("/healthz", healthz)
