"""The listening socket and its connections, with every size and wait bounded.

aiohttp answers some requests itself, in plain text: no such route, an unknown expectation, and, below all middlewares
and with a traceback in the log, what it cannot parse. Here those become problems like any other. Must never decide
anything about a request that a handler gets to see.
"""

import asyncio

import structlog
from aiohttp import web

from unibus.http.problems import plain_response, refusal

MAX_LINE = 4096
"""Bytes of the request line, and of each header."""
MAX_HEADERS = 64
IDLE_SECONDS = 75.0
"""How long a connection may take to send its first, or its next, complete set of headers."""
LINGER_SECONDS = 2.0
"""How long the rest of a refused body is read and dropped, so that its sender gets to see the answer."""


class Connection(web.RequestHandler):
    """One connection. What is no HTTP request is answered with a problem, and ends the connection."""

    __slots__ = ("_log",)

    def __init__(self, server: web.Server, log: structlog.stdlib.BoundLogger, idle: float) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=idle,
            lingering_time=LINGER_SECONDS,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            max_headers=MAX_HEADERS,
            auto_decompress=False,
            access_log=None,  # type: ignore[arg-type]  # aiohttp takes None for "no access log"; its types do not say so
        )
        self._log = log

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature; its message repeats what was sent
    ) -> web.StreamResponse:
        """The answer to what no handler saw. Raises ConnectionError if part of another answer is out already."""
        if request.writer.output_size > 0:
            raise ConnectionAbortedError
        self._log.info("unreadable request", peer=request.remote, status=status, reason=type(exc).__name__)
        answer = plain_response(
            status, f"this is not a readable HTTP/1.1 request with headers of at most {MAX_LINE} bytes each"
        )
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send `resp`, as a problem if it is a refusal by aiohttp itself."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = refusal(resp)
        return await super().finish_response(request, resp, start_time)


class Site(web.BaseSite):
    """Serves `runner` on `host` and `port` (0: any free one; `runner.addresses` tells which). `idle` is in seconds."""

    __slots__ = ("_host", "_idle", "_log", "_port")

    def __init__(
        self,
        runner: web.AppRunner,
        host: str,
        port: int,
        *,
        log: structlog.stdlib.BoundLogger,
        idle: float = IDLE_SECONDS,
    ) -> None:
        super().__init__(runner)
        self._host, self._port, self._log, self._idle = host, port, log, idle

    @property
    def name(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises OSError if the address is taken or not this machine's."""
        await super().start()
        server = self._runner.server
        if server is None:
            raise RuntimeError("the runner must be set up before its site starts")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Connection(server, self._log, self._idle), self._host, self._port
        )
