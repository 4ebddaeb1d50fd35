"""The listening socket and its connections, with every size and wait bounded.

aiohttp answers some requests itself, in plain text: no such route, an unknown expectation, and, seen by no watcher and
with a traceback in the log, what it cannot parse. Here those become problems like any other. Must never decide
anything about a request that a handler gets to see.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict

from unibus.errors import HeadersTooLarge, RateLimited, TargetTooLong
from unibus.http.crowd import Crowd, Place
from unibus.http.dispatch import Tell
from unibus.http.door import Door, Guest
from unibus.http.limits import Limits
from unibus.http.nonces import HEADER, ServerNonces
from unibus.http.problems import plain_response, problem_response, refusal
from unibus.http.whole import Whole
from unibus.model.rates import address_key
from unibus.services.refusals import Allowance
from unibus.tasks import end_tasks

UNREADABLE_AT_ONCE = 60
"""So many requests that are none are logged, and as many an hour: anybody could fill a disk with their lines."""
SERVER = "unibus"
"""What answers name as their server: no version, of this or of anything below, that would tell which holes to try."""


def telling(nonces: ServerNonces) -> Tell:
    """What says in an answer's headers what every answer says of the node, and that is not its versions."""

    def tell(headers: CIMultiDict[str]) -> None:
        headers[hdrs.SERVER] = SERVER  # aiohttp would name itself and Python
        headers[HEADER] = nonces.newest()

    return tell


@dataclass(frozen=True, slots=True)
class House:
    """What all connections of one listener have in common.

    While the node is `draining` each ends with its next answer: whoever asked goes to another node by then. `noted`
    says whether one more unreadable request, or handshake too many, goes into the log, and how many did not before:
    None if it does not either. `charge` counts either against its address, or raises RateLimited. `key` says what an
    address counts as.
    """

    log: structlog.stdlib.BoundLogger
    limits: Limits
    crowd: Crowd
    draining: Callable[[], bool]
    tell: Tell
    noted: Callable[[], int | None]
    charge: Callable[[str | None], None]
    key: Callable[[str | None], str | None]


class Connection(web.RequestHandler, Guest):
    """One connection. What is no HTTP request is answered with a problem, and ends the connection.

    `crowded` says that it is one too many: it may send one request, soon, and is told so.
    """

    __slots__ = ("_crowd", "_entered", "_handshake", "_house", "_ruined", "crowded")

    def __init__(self, server: web.Server, house: House) -> None:
        limits = house.limits
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.idle_seconds,
            lingering_time=limits.linger_seconds,
            max_line_size=limits.target,
            max_field_size=limits.header,
            max_headers=limits.headers,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "no access log"; its types do not say so
        )
        self._house = house
        self._crowd = house.crowd
        self._ruined = False
        self._entered = False
        self.crowded = False
        self._handshake: asyncio.Task[None] | None = None

    def knock(self, transport: asyncio.BaseTransport) -> bool:
        """See `Guest.knock`."""
        peer = _peer(transport)
        try:
            self._house.charge(peer)
        except RateLimited:
            self._note("handshakes too often", peer=peer)
            return False
        return self._enter(transport)

    def _enter(self, transport: asyncio.BaseTransport) -> bool:
        self._entered = True
        place = self._crowd.enter(self, self._house.key(_peer(transport)))
        self.crowded = place is not Place.INSIDE
        if self.crowded:
            self._keepalive_timeout = self._house.limits.linger_seconds
        _end_unread(transport, self._house.limits.idle_seconds)
        if place is Place.NONE:
            self.leave()
        return place is not Place.NONE

    def shakes_hands(self, handshake: asyncio.Task[None]) -> None:
        """See `Guest.shakes_hands`."""
        self._handshake = handshake

    def leave(self) -> None:
        """See `Guest.leave`."""
        self._crowd.leave(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the connection in, if there is room."""
        self._handshake = None
        let_in = self._entered or self._enter(transport)
        super().connection_made(transport)
        if not let_in:
            self.force_close()

    def force_close(self) -> None:
        """End it, also where it has not shaken hands yet."""
        if self._handshake is not None:
            self._handshake.cancel()
        super().force_close()

    def data_received(self, data: bytes) -> None:
        """Read on; who has sent a request no longer waits for one. After what is no request nothing is read."""
        if self._ruined:
            return
        super().data_received(data)
        newest = self._messages[-1][0] if self._messages else None
        if newest is None:
            return
        self._crowd.works(self)
        if not isinstance(newest, RawRequestMessage):
            # Each piece that comes after this would be an error, too, and each error would hold its piece, in a circle:
            # megabytes, until somebody looks for garbage.
            self._ruined = True
            _forget_where(newest.exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another."""
        self.leave()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; its message repeats what was sent
    ) -> web.StreamResponse:
        """The answer to what no handler saw. Raises ConnectionError if part of another is out, or nobody is there."""
        self._ruined = True
        _forget_where(exc)
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionAbortedError
        answer = self._refused(request, status, exc)
        answer.force_close()
        return answer

    def _refused(self, request: web.BaseRequest, status: int, exc: BaseException | None) -> web.Response:
        if not self.crowded:
            try:
                self._house.charge(request.remote)
            except RateLimited as error:
                return problem_response(error)
        self._note("unreadable request", peer=request.remote, status=status, reason=type(exc).__name__)
        return self._unreadable(status, exc)

    def _note(self, event: str, **facts: object) -> None:
        left_out = self._house.noted()
        if left_out is not None:
            self._house.log.info(event, **facts, left_out=left_out)

    def _unreadable(self, status: int, exc: BaseException | None) -> web.Response:
        limits = self._house.limits
        # The parser tells what was too long by nothing but the limit, and too many headers by nothing but its words.
        match exc:
            case LineTooLong(args=(_, limits.target, _)):
                return problem_response(TargetTooLong(f"an address has at most {limits.target} bytes here"))
            case LineTooLong():
                return problem_response(HeadersTooLarge(f"a header has at most {limits.header} bytes here"))
            case web.HTTPException() | None:
                pass
            case _ if str(getattr(exc, "message", "")).startswith("Too many headers"):
                return problem_response(HeadersTooLarge(f"a request has at most {limits.headers} headers here"))
        return plain_response(status, "this is not a readable HTTP/1.1 request")

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send `resp`, as a problem if it is a refusal by aiohttp itself."""
        if resp.status >= 400 and isinstance(resp, web.HTTPException):
            resp = refusal(resp)
        if self.crowded or self._house.draining():
            resp.force_close()
        # After what asks for an upgrade there may be more requests, which aiohttp reads before it answers.
        try:
            at_once = isinstance(resp, Whole) and not self._upgraded and await resp.send(request, self._house.tell)
        except ConnectionError:
            return resp, True
        sent = (resp, False) if at_once else await super().finish_response(request, resp, start_time)
        if not self._messages:  # else the next request is here already
            self._crowd.rests(self)
        return sent


def _forget_where(error: BaseException | None) -> None:
    """Have an error no longer hold what was being read when it was raised."""
    if error is not None:
        error.__traceback__ = None


def _peer(transport: asyncio.BaseTransport) -> str | None:
    """The address on the other side; None where that has gone already."""
    found = transport.get_extra_info("peername")
    return found[0] if found else None


def _end_unread(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Have the kernel end a connection whose other side takes nothing of what it was sent for so many seconds.

    Nothing else would: neither is it idle, nor is a handler at work. It ends one that is closed here already, too.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


class Site(web.BaseSite):
    """Serves `runner` on `host` and `port` (0: any free one; `runner.addresses` tells which), over TLS with `tls`.

    The others are as in `House`. `clock` gives seconds that never go back.
    """

    __slots__ = ("_host", "_house", "_port", "_shaking", "_tls")

    def __init__(
        self,
        runner: web.ServerRunner,
        host: str,
        port: int,
        *,
        tell: Tell,
        log: structlog.stdlib.BoundLogger,
        limits: Limits,
        charge: Callable[[str | None], None],
        tls: ssl.SSLContext | None = None,
        draining: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        key: Callable[[str | None], str | None] = address_key,
    ) -> None:
        super().__init__(runner)
        self._host, self._port, self._tls = host, port, tls
        self._shaking: set[asyncio.Task[None]] = set()
        unreadable = Allowance(UNREADABLE_AT_ONCE)
        self._house = House(
            log,
            limits,
            Crowd(limits.connections, clock),
            draining=draining,
            tell=tell,
            noted=lambda: unreadable.note(clock()),
            charge=charge,
            key=key,
        )

    @property
    def name(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    @property
    def connections(self) -> int:
        """How many are open, those that shake hands among them."""
        return len(self._house.crowd)

    async def start(self) -> None:
        """Listen. Raises OSError if the address is taken or not this machine's."""
        await super().start()
        server, tls = self._runner.server, self._tls
        if server is None:
            raise RuntimeError("the runner must be set up before its site starts")

        def connection() -> asyncio.Protocol:
            made = Connection(server, self._house)
            return made if tls is None else Door(made, tls, self._shaking)

        self._server = await asyncio.get_running_loop().create_server(connection, self._host, self._port)

    async def stop(self) -> None:
        """Listen no more; who still shakes hands is not let in."""
        await super().stop()
        await end_tasks(*self._shaking)
