"""The control plane as the client calls it: signed HTTP requests, and problems turned back into errors.

Every call may be repeated: reads by nature, appends because the daemon answers a repeated record as the first time.
So a lost connection or a node that is not ready is tried again until the deadline. Never trusts what an answer says.
"""

import asyncio
import os
import re
import secrets
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TypeVar

import aiohttp
from pydantic import ValidationError
from yarl import URL

from unibus.client.backoff import PASSING, delays
from unibus.client.trust import refused
from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import sign
from unibus.crypto.nkeys import SigningKey
from unibus.errors import CertificateRefused, InvalidInput, RateLimited, UnibusError, Unreachable, Untrusted
from unibus.model.bodies import Strict
from unibus.model.problem import from_problem
from unibus.model.wire import (
    AppendRequest,
    AuditPage,
    BusView,
    FoundRequest,
    HeadView,
    JoinRequest,
    JoinView,
    KeysPage,
    RecordsPage,
    RoomsPage,
)

DEADLINE = 15.0  # seconds for one call, retries included, unless told otherwise
ANSWER_LIMIT = 64 * 2**20
_SECONDS = re.compile(r"[0-9]{1,9}")
Model = TypeVar("Model", bound=Strict)


def parse_url(text: str) -> URL:
    """The control plane's base URL. Raises InvalidInput."""
    try:
        url = URL(text)
    except ValueError as error:
        raise InvalidInput(f"not a URL: {text!r}") from error
    beyond = url.user or url.password or url.path not in {"", "/"} or url.query_string or url.fragment
    if url.scheme not in {"http", "https"} or not url.host or beyond:
        raise InvalidInput(f"the URL of a daemon looks like http://host:8470, not {text!r}")
    return url.with_path("/")


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
    number = cause.errno if isinstance(cause, OSError) else None
    reason = os.strerror(number).lower() if number and number > 0 else str(cause)
    return Unreachable(
        f"cannot reach {str(url).rstrip('/')}: {reason}; is the daemon (unibus-membershipd) running there?"
    )


class ControlApi:
    """Calls to one daemon as the holder of one key. `bus` is set once the client knows which bus it talks to.

    `tls` says which certificates are taken over https, None the system's.
    """

    def __init__(
        self,
        url: str,
        key: SigningKey,
        clock: Callable[[], float],
        deadline: float = DEADLINE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = parse_url(url)
        self.tls = tls
        self.bus: str | None = None
        self._key = key
        self._clock = clock
        self._deadline = deadline
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the HTTP session; `close` ends it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.tls or True),
            timeout=aiohttp.ClientTimeout(total=self._deadline),
            headers={"Accept-Encoding": "identity"},  # what arrives compressed has no known size
            auto_decompress=False,
        )

    async def close(self) -> None:
        """End the session. Safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def bus_view(self) -> BusView:
        """Which bus this daemon serves; unsigned."""
        return await self.call(BusView, "GET", URL("/v1/bus"))

    async def found(self, token: str, record: bytes) -> HeadView:
        """Make the bus, with its bootstrap token."""
        body = FoundRequest(record=record.decode("ascii")).model_dump_json().encode()
        headers = {"Authorization": f"Bearer {token}"}
        return await self.call(HeadView, "POST", URL("/v1/bus"), body, headers)

    async def records(self, log: str, after: int) -> RecordsPage:
        """A page of a log's records after number `after`."""
        return await self.call(RecordsPage, "GET", URL(_path(log, "records")) % {"after": str(after)})

    async def append(self, log: str, record: bytes, sealed: Mapping[str, bytes]) -> HeadView:
        """Append a record with the sealed keys that it commits to."""
        body = AppendRequest(record=record.decode("ascii"), sealed={user: b64u(key) for user, key in sealed.items()})
        return await self.call(HeadView, "POST", URL(_path(log, "records")), body.model_dump_json().encode())

    async def keys(self, log: str, after: int) -> KeysPage:
        """Keys sealed to this identity in a room, after record number `after`."""
        return await self.call(KeysPage, "GET", URL(_path(log, "keys")) % {"after": str(after)})

    async def invitation(self) -> JoinView:
        """What the invite whose key this client has is for."""
        return await self.call(JoinView, "GET", URL("/v1/join"))

    async def join(self, record: bytes) -> HeadView:
        """Join by the invite whose key this client has."""
        body = JoinRequest(record=record.decode("ascii")).model_dump_json().encode()
        return await self.call(HeadView, "POST", URL("/v1/join"), body)

    async def audit(self, after: int, wait: int) -> AuditPage:
        """A page of the node's audit trail after entry `after`; waits up to `wait` seconds for the first."""
        return await self.call(AuditPage, "GET", URL("/v1/audit") % {"after": str(after), "wait": str(wait)})

    async def rooms(self, after: str) -> RoomsPage:
        """A page of the ids of this identity's rooms."""
        return await self.call(RoomsPage, "GET", URL("/v1/rooms") % ({"after": after} if after else {}))

    async def call(
        self, model: type[Model], method: str, path: URL, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Model:
        """The `model` that the daemon answers with; asked again until the deadline while it cannot serve."""
        last: UnibusError = Unreachable(f"{self.url} did not answer within {self._deadline:g} s")
        try:
            async with asyncio.timeout(self._deadline) as deadline:
                for pause in delays():
                    self._opened()
                    try:
                        return await self._once(model, method, path, body, headers or {})
                    except UnibusError as error:
                        if error.status not in PASSING:
                            raise
                        last = error
                    wait = max(pause, _asked_to_wait(last))
                    if wait > (deadline.when() or 0) - asyncio.get_running_loop().time():
                        raise last
                    await asyncio.sleep(wait)
        except TimeoutError:
            pass
        raise last

    async def _once(self, model: type[Model], method: str, path: URL, body: bytes, extra: Mapping[str, str]) -> Model:
        headers = {**extra, "Content-Type": "application/json"} if body else extra
        async with self.exchange(method, path, body, headers) as response:
            answer = await _whole(response)
        try:
            return model.model_validate_json(answer)
        except ValidationError as error:
            raise Untrusted(f"{path} answered with something that is not a {model.__name__}") from error

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: URL,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        patience: aiohttp.ClientTimeout | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """One signed request, tried once, and its answer as it comes, for no longer than `patience`.

        Raises what a refusal stands for, and Unreachable when the connection fails, also while the answer is read.
        """
        session, url = self._opened(), self.url.join(path)
        signed = dict(headers or {})
        if self.bus is not None:
            created, nonce = int(self._clock()), b64u(secrets.token_bytes(16))
            signed |= sign(self._key, method, str(url), body, bus=self.bus, created=created, nonce=nonce)
        limits = session.timeout if patience is None else patience
        try:
            async with session.request(
                method, url, data=BytesIO(body) if body else None, headers=signed, allow_redirects=False, timeout=limits
            ) as response:
                if not 200 <= response.status < 300:
                    raise _refusal(response, await _whole(response))
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self.url, error) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Unreachable("the connection to the bus is closed")
        return self._session


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    answer = bytearray()
    async for chunk in response.content.iter_any():
        answer += chunk
        if len(answer) > ANSWER_LIMIT:
            raise Untrusted(f"{response.url} answered with more than {ANSWER_LIMIT} bytes")
    return bytes(answer)


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> UnibusError:
    error = from_problem(response.status, body)
    if response.status != 429 or isinstance(error, RateLimited):
        return error
    # Something between here and the daemon: it tells when to go on in the header only (RFC 9110 section 10.2.3).
    seconds = response.headers.get("Retry-After", "")
    return RateLimited(error.message, retry_after=int(seconds) if _SECONDS.fullmatch(seconds) else 0)


def _asked_to_wait(error: UnibusError) -> float:
    asked = error.extra.get("retry_after")
    return asked if isinstance(asked, int | float) and asked > 0 else 0.0


def _path(log: str, what: str) -> str:
    kind, _, room = log.partition("/")
    return f"/v1/rooms/{room}/{what}" if kind == "room" else f"/v1/directory/{what}"
