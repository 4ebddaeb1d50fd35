"""The listening socket and its connections, with every size and wait bounded.

aiohttp answers some requests itself, in plain text: no such route, an unknown expectation, and, seen by no watcher and
with a traceback in the log, what it cannot parse. Here those become problems like any other. Must never decide
anything about a request that a handler gets to see.
"""

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import structlog
from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from multidict import CIMultiDict

from unibus.errors import HeadersTooLarge, TargetTooLong
from unibus.http.dispatch import Tell
from unibus.http.limits import Limits
from unibus.http.nonces import HEADER, ServerNonces
from unibus.http.problems import plain_response, problem_response, refusal
from unibus.http.whole import Whole
from unibus.model.rates import address_key
from unibus.services.refusals import Allowance

HANDSHAKE_SECONDS = 5.0
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


class Closable(Protocol):
    """A connection, as a crowd sees it."""

    def force_close(self) -> None:
        """End it."""


class Crowd:
    """How many connections there are, in all and from each address. Nobody but loopback may have more than half.

    Where there is no room, one that was answered and rests makes some, the longest rested first: clients keep
    connections for a next request that often never comes, and would keep others out with them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[Closable, str | None] = {}
        self._by_address: Counter[str | None] = Counter()
        self._resting: dict[Closable, None] = {}

    def enter(self, connection: Closable, address: str | None) -> bool:
        """Count a connection; whether there is room for it, or was made."""
        self._open[connection] = address
        self._by_address[address] += 1
        if not self._fits(address):
            # An address that has its half makes room itself, and nobody else for it.
            own = self._too_many(address)
            longest = next((each for each in self._resting if not own or self._open[each] == address), None)
            if longest is not None:
                self.leave(longest)
                longest.force_close()
        return self._fits(address)

    def rests(self, connection: Closable) -> None:
        """It was answered, and may send another request or not."""
        if connection in self._open:
            self._resting[connection] = None

    def works(self, connection: Closable) -> None:
        """It sends another request."""
        self._resting.pop(connection, None)

    def _too_many(self, address: str | None) -> bool:
        return address is not None and self._by_address[address] > max(1, self._most // 2)

    def _fits(self, address: str | None) -> bool:
        return len(self._open) <= self._most and not self._too_many(address)

    def leave(self, connection: Closable) -> None:
        """Count it no longer. Safe to call twice."""
        self._resting.pop(connection, None)
        if connection in self._open:
            address = self._open.pop(connection)
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._open)

    @property
    def overrun(self) -> bool:
        """Whether there are so many that not even refusals can be said."""
        return len(self._open) > 2 * self._most


class Connection(web.RequestHandler):
    """One connection. What is no HTTP request is answered with a problem, and ends the connection.

    `crowded` says that it is one too many: it may send one request, soon, and is told so. While the node is `draining`
    it ends with its next answer: whoever asked goes to another node by then. `noted` says whether one more request that
    is unreadable goes into the log, and how many did not before: None if it does not either.
    """

    __slots__ = ("_crowd", "_draining", "_limits", "_log", "_noted", "_ruined", "_tell", "crowded")

    def __init__(
        self,
        server: web.Server,
        log: structlog.stdlib.BoundLogger,
        limits: Limits,
        crowd: Crowd,
        draining: Callable[[], bool],
        tell: Tell,
        noted: Callable[[], int | None],
    ) -> None:
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
        self._log = log
        self._limits = limits
        self._crowd = crowd
        self._draining = draining
        self._tell = tell
        self._noted = noted
        self._ruined = False
        self.crowded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the connection in, if there is room."""
        peer = transport.get_extra_info("peername")
        self.crowded = not self._crowd.enter(self, address_key(peer[0] if peer else None))
        if self.crowded:
            self._keepalive_timeout = self._limits.linger_seconds
        _end_unread(transport, self._limits.idle_seconds)
        super().connection_made(transport)
        if self._crowd.overrun:
            self.force_close()

    def data_received(self, data: bytes) -> None:
        """Read on; a connection that rested does so no more. After what is no request nothing is read."""
        self._crowd.works(self)
        if self._ruined:
            return
        super().data_received(data)
        newest = self._messages[-1][0] if self._messages else None
        if newest is not None and not isinstance(newest, RawRequestMessage):
            # Each piece that comes after this would be an error, too, and each error would hold its piece, in a circle:
            # megabytes, until somebody looks for garbage.
            self._ruined = True
            _forget_where(newest.exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Make room for another."""
        self._crowd.leave(self)
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
        left_out = self._noted()
        if left_out is not None:
            reason = type(exc).__name__
            self._log.info("unreadable request", peer=request.remote, status=status, reason=reason, left_out=left_out)
        answer = self._unreadable(status, exc)
        answer.force_close()
        return answer

    def _unreadable(self, status: int, exc: BaseException | None) -> web.Response:
        limits = self._limits
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
        if self.crowded or self._draining():
            resp.force_close()
        # After what asks for an upgrade there may be more requests, which aiohttp reads before it answers.
        try:
            at_once = isinstance(resp, Whole) and not self._upgraded and await resp.send(request, self._tell)
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


def _end_unread(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Have the kernel end a connection whose other side takes nothing of what it was sent for so many seconds.

    Nothing else would: neither is it idle, nor is a handler at work. It ends one that is closed here already, too.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


class Site(web.BaseSite):
    """Serves `runner` on `host` and `port` (0: any free one; `runner.addresses` tells which), over TLS with `tls`.

    While `draining`, each connection ends with its next answer. `clock` gives seconds that never go back.
    """

    __slots__ = (
        "_clock",
        "_crowd",
        "_draining",
        "_host",
        "_limits",
        "_log",
        "_port",
        "_tell",
        "_tls",
        "_unreadable",
    )

    def __init__(
        self,
        runner: web.ServerRunner,
        host: str,
        port: int,
        *,
        tell: Tell,
        log: structlog.stdlib.BoundLogger,
        limits: Limits,
        tls: ssl.SSLContext | None = None,
        draining: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(runner)
        self._host, self._port, self._log, self._limits = host, port, log, limits
        self._crowd = Crowd(limits.connections)
        self._tell = tell
        self._tls = tls
        self._draining = draining
        self._clock = clock
        self._unreadable = Allowance(UNREADABLE_AT_ONCE)

    @property
    def name(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return self._crowd.size

    async def start(self) -> None:
        """Listen. Raises OSError if the address is taken or not this machine's."""
        await super().start()
        server = self._runner.server
        if server is None:
            raise RuntimeError("the runner must be set up before its site starts")
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(server, self._log, self._limits, self._crowd, self._draining, self._tell, self._note),
            self._host,
            self._port,
            ssl=self._tls,
            # Whoever has not shaken hands is in no count yet, so it must not take long.
            ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls else None,
        )

    def _note(self) -> int | None:
        return self._unreadable.note(self._clock())
