"""One signed HTTP request to one node, tried once: its answer as it comes, or the error that its failure stands for.

Never trusts what an answer says, follows no redirect, unpacks nothing, and takes no more than a bounded answer.
"""

import re
import secrets
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from typing import NamedTuple

import aiohttp
from yarl import URL

from unibus.client.backoff import PASSING
from unibus.client.server_nonces import ServerNonces
from unibus.client.trust import refused
from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import NONCE_HEADER, sign
from unibus.crypto.nkeys import SigningKey
from unibus.errors import (
    CertificateRefused,
    NonceUnknown,
    RateLimited,
    SignatureInvalid,
    UnibusError,
    Unreachable,
    Untrusted,
    reason_by_number,
)
from unibus.model.problem import from_problem

ANSWER_LIMIT = 64 * 2**20
_SLICE = 512 * 1024
"""Bytes of a large body that are given to the connection at once, uncopied."""
_SECONDS = re.compile(r"[0-9]{1,9}")


def unreachable(url: URL, error: aiohttp.ClientError | OSError) -> Unreachable | CertificateRefused:
    """Why the daemon at `url` was not reached, or not believed, in the system's own words where there are any."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        found = error.certificate_error
        if isinstance(found, ssl.SSLCertVerificationError):
            return refused(str(url).rstrip("/"), found)
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    asked = isinstance(cause, ssl.SSLError) and "CERTIFICATE_REQUIRED" in str(cause)
    cut_off = isinstance(cause, aiohttp.ServerDisconnectedError | ConnectionResetError)
    if asked or (url.scheme == "https" and cut_off):
        # In TLS 1.3 a client has shaken hands before the server misses its certificate, and may just be cut off.
        return Unreachable(
            f"{str(url).rstrip('/')} ended the connection: if it wants a certificate of yours, name it with"
            " --client-cert"
        )
    if isinstance(cause, ssl.SSLError):
        why = (cause.reason or str(cause)).replace("_", " ").lower()
        return Unreachable(
            f"cannot speak tls with {str(url).rstrip('/')}: {why}; if it has none, its address begins with http://"
        )
    ask = "is the daemon (unibus-membershipd) running there?"
    if cut_off:
        reason = "it ended the connection"
        ask += " if it has tls, its address begins with https://"
    elif isinstance(cause, OSError):
        reason = reason_by_number(cause)
    elif isinstance(cause, aiohttp.ClientResponseError):  # its own words show all that came
        reason = "what answers speaks no http"
        ask = "name the daemon's http port, not that of nats"
    else:
        reason = str(cause)
    return Unreachable(f"cannot reach {str(url).rstrip('/')}: {reason}; {ask}")


class NamedBody(NamedTuple):
    """A body that the address of its request has the hash of. `given` is called when all of it is on its way."""

    data: memoryview
    given: Callable[[], object]


class _Asked(NamedTuple):
    """One request, unsigned; the rest is as `Exchange.ask` takes it."""

    method: str
    url: URL
    body: bytes
    headers: dict[str, str]
    patience: aiohttp.ClientTimeout | None
    named: NamedBody | None


class Exchange:
    """Requests in the name of one key. `bus` is the bus that they are signed for; before it is known none is signed.

    `seconds` is how long a request may take unless it says otherwise; `tls` says which certificates are taken over
    https, None the system's.
    """

    def __init__(
        self, key: SigningKey, clock: Callable[[], float], seconds: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self.bus: str | None = None
        self._key = key
        self._clock = clock
        self._seconds = seconds
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._nonces = ServerNonces(time.monotonic)

    async def open(self) -> None:
        """Make the HTTP session; `close` ends it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls or True),
            timeout=aiohttp.ClientTimeout(total=self._seconds),
            headers={"Accept-Encoding": "identity"},  # what arrives compressed has no known size
            auto_decompress=False,
        )

    async def close(self) -> None:
        """End the session. Safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def opened(self) -> aiohttp.ClientSession:
        """The session. Raises Unreachable when there is none any more."""
        if self._session is None:
            raise Unreachable("the connection to the bus is closed")
        return self._session

    @asynccontextmanager
    async def ask(
        self,
        node: URL,
        method: str,
        path: URL,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        patience: aiohttp.ClientTimeout | None = None,
        signed: bool = True,
        named: NamedBody | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """The answer of `node`, which takes no longer than `patience`.

        `named` is a body whose hash is in `path`, and so under the signature already; it must not change until the
        answer is there. What is signed with a nonce that the node gave out, and is refused for it, is signed once more
        without.

        Raises what a refusal stands for, and Unreachable when the connection fails, also while the answer is read.
        """
        asked = _Asked(method, node.join(path), body, dict(headers or {}), patience, named)
        signing = signed and self.bus is not None
        server_nonce = self._nonces.of(node) if signing else None
        try:
            try:
                response = await self._answer(node, asked, server_nonce, signed=signed)
            except (NonceUnknown, SignatureInvalid):  # the latter from an older version, which knows no such nonces
                if server_nonce is None:
                    raise
                self._nonces.refused(node)
                response = await self._answer(node, asked, None, signed=signed)
            async with response:
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(node, error) from error

    async def _answer(
        self, node: URL, asked: _Asked, server_nonce: str | None, *, signed: bool
    ) -> aiohttp.ClientResponse:
        session, sent = self.opened(), asked.headers.copy()
        if self.bus is not None and signed:
            sent |= sign(
                *(self._key, asked.method, str(asked.url), asked.body),
                bus=self.bus,
                created=int(self._clock()),
                nonce=b64u(secrets.token_bytes(16)),
                server_nonce=server_nonce,
            )
        data: BytesIO | AsyncGenerator[memoryview, None] | None = BytesIO(asked.body) if asked.body else None
        if asked.named is not None:
            data, sent["Content-Length"] = _slices(asked.named), str(len(asked.named.data))
        response = await session.request(
            asked.method,
            asked.url,
            data=data,
            headers=sent,
            allow_redirects=False,
            timeout=session.timeout if asked.patience is None else asked.patience,
        )
        self._nonces.heard(node, response.headers.getall(NONCE_HEADER, ()))
        if 200 <= response.status < 300:
            return response
        async with response:
            raise refusal(response, await read_whole(response))


async def _slices(body: NamedBody) -> AsyncGenerator[memoryview, None]:
    for start in range(0, len(body.data), _SLICE):
        yield body.data[start : start + _SLICE]
    body.given()


async def read_whole(response: aiohttp.ClientResponse) -> bytes:
    """All of the answer. Raises Untrusted for one above ANSWER_LIMIT bytes."""
    answer = bytearray()
    async for chunk in response.content.iter_any():
        answer += chunk
        if len(answer) > ANSWER_LIMIT:
            raise Untrusted(f"{response.url} answered with more than {ANSWER_LIMIT} bytes")
    return bytes(answer)


def refusal(response: aiohttp.ClientResponse, body: bytes) -> UnibusError:
    """The error that an answer with the status of a refusal stands for."""
    error = from_problem(response.status, body)
    if response.status == 429 and not isinstance(error, RateLimited):
        # Something between here and the daemon: it tells when to go on in the header only (RFC 9110 section 10.2.3).
        seconds = response.headers.get("Retry-After", "")
        return RateLimited(error.message, retry_after=int(seconds) if _SECONDS.fullmatch(seconds) else 0)
    if response.status in PASSING and error.status not in PASSING:
        return Unreachable(error.message, **error.extra)  # a reason to come back later that only a newer version knows
    return error
