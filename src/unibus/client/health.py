"""Asking a node for its health; needs no identity."""

import contextlib
import json
import ssl
from typing import Any

import aiohttp
from yarl import URL

from unibus.client.exchange import unreachable
from unibus.client.nodes import parse_urls
from unibus.errors import Unreachable, Untrusted

LIMIT = 2**20


async def fetch_health(url: str, seconds: float, tls: ssl.SSLContext | None = None) -> dict[str, Any]:
    """What the `/healthz` of a node shows, ok or degraded; of several, with commas between them, the first to answer.

    Each may take `seconds`. Raises Unreachable, CertificateRefused, Untrusted.
    """
    *others, last = parse_urls(url)
    for node in others:
        with contextlib.suppress(Unreachable):
            return await _fetch(node, seconds, tls)
    return await _fetch(last, seconds, tls)


async def _fetch(node: URL, seconds: float, tls: ssl.SSLContext | None) -> dict[str, Any]:
    address = node / "healthz"
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls or True), timeout=aiohttp.ClientTimeout(total=seconds)
            ) as session,
            session.get(address, allow_redirects=False) as response,
        ):
            answer = json.loads(await response.content.read(LIMIT))
    except TimeoutError as error:
        raise Unreachable(f"{node} did not answer within {seconds:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise unreachable(address.origin(), error) from error
    except ValueError as error:
        raise Untrusted(f"{address} does not answer as a unibus node does") from error
    if not isinstance(answer, dict) or "status" not in answer:
        raise Untrusted(f"{address} does not answer as a unibus node does")
    return answer
