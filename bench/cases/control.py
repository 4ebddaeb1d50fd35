"""Signed control-plane reads a second, beside a bare aiohttp handler that verifies one signature."""

import os
import time
from base64 import b64encode
from collections.abc import AsyncGenerator

from yarl import URL

from bench import promises
from bench.harness import Case, Metric, Sample, Side
from bench.load import rate, request, server_nonce
from bench.plan import Plan
from bench.stage import Stage
from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import sign

AT_ONCE = 32


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case."""
    yield Case(
        (Metric("signed read", "requests/s"),),
        (
            Side("unibus", promises.UNIBUS_REQUEST, lambda: _unibus(stage, plan.requests)),
            Side("bare aiohttp", promises.BARE_REQUEST, lambda: _bare(stage, plan.requests), (">= 0.7",)),
        ),
    )


async def _unibus(stage: Stage, count: int) -> Sample:
    head = stage.sender.directory.head.sequence
    url = URL(stage.url) / "v1/directory/records" % {"after": str(head)}
    key, bus, now = stage.sender.identity.signing, stage.sender.id, int(time.time())
    given = await server_nonce(url)

    def signed() -> dict[str, str]:
        nonce = b64u(os.urandom(16))
        return sign(key, "GET", str(url), b"", bus=bus, created=now, nonce=nonce, server_nonce=given)

    requests = [request("GET", url, signed()) for _ in range(count)]
    assert url.port is not None
    return (await rate(url.port, requests, AT_ONCE),)


async def _bare(stage: Stage, count: int) -> Sample:
    url = URL(f"http://127.0.0.1:{stage.bare.port}/")
    key = stage.sender.identity.signing

    def signed() -> dict[str, str]:
        text = b64u(os.urandom(16))
        return {"X-Signed": text, "X-Signature": b64encode(key.sign(text.encode())).decode("ascii")}

    return (await rate(stage.bare.port, [request("GET", url, signed()) for _ in range(count)], AT_ONCE),)
