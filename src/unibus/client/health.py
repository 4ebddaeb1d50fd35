"""Asking a node for its health; needs no identity."""

import json
import ssl
from typing import Any

import aiohttp

from unibus.client.api import parse_url, unreachable
from unibus.errors import Unreachable, Untrusted

LIMIT = 2**20


async def fetch_health(url: str, seconds: float, tls: ssl.SSLContext | None = None) -> dict[str, Any]:
    """What the node's `/healthz` shows, ok or degraded. Raises Unreachable, CertificateRefused, Untrusted."""
    address = parse_url(url) / "healthz"
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls or True), timeout=aiohttp.ClientTimeout(total=seconds)
            ) as session,
            session.get(address, allow_redirects=False) as response,
        ):
            answer = json.loads(await response.content.read(LIMIT))
    except TimeoutError as error:
        raise Unreachable(f"{url} did not answer within {seconds:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise unreachable(address.origin(), error) from error
    except ValueError as error:
        raise Untrusted(f"{address} does not answer as a unibus node does") from error
    if not isinstance(answer, dict) or "status" not in answer:
        raise Untrusted(f"{address} does not answer as a unibus node does")
    return answer
