"""A signed request that somebody has overheard: the same bytes may be sent to any node, any number of times."""

import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import sign
from unibus.crypto.identity import Identity


@dataclass(frozen=True)
class Captured:
    """A GET of `path` as it was on the wire to `host`, with the `nonce` that one node may accept once."""

    host: str
    path: str
    nonce: str
    headers: Mapping[str, str]

    @classmethod
    def by(
        cls, who: Identity, bus: str, path: str = "/v1/rooms", host: str = "bus.example", given: str | None = None
    ) -> "Captured":
        """One that is signed now, with the nonce that a node has `given`."""
        nonce, now, url = b64u(secrets.token_bytes(16)), int(time.time()), f"https://{host}{path}"
        signed = sign(who.signing, "GET", url, b"", bus=bus, created=now, nonce=nonce, server_nonce=given)
        return cls(host, path, nonce, signed)

    async def send(self, session: aiohttp.ClientSession, node: str, seconds: float = 10.0) -> int:
        """The status that `node` answers with. Raises aiohttp.ClientError, TimeoutError when there is no answer."""
        patience = aiohttp.ClientTimeout(total=seconds)
        headers = {**self.headers, "Host": self.host}
        async with session.get(URL(node).with_path(self.path), headers=headers, timeout=patience) as answer:
            await answer.read()
            return answer.status


def session(tls: ssl.SSLContext) -> aiohttp.ClientSession:
    """What requests are sent with."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls))
