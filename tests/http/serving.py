"""A real server on a free port, and raw connections to it that send exactly the bytes a test wants."""

import asyncio
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import structlog
from aiohttp import web
from structlog.testing import LogCapture

from unibus.http.dispatch import dispatching
from unibus.http.limits import Limits
from unibus.http.nonces import ServerNonces
from unibus.http.problems import Watcher, answering
from unibus.http.site import Site, telling
from unibus.model.rates import address_key

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Answer:
    """An answer as it came: `members` is its JSON body, empty if it had none."""

    status: int
    headers: dict[str, str]
    members: dict[str, Any]

    @property
    def problem(self) -> str | None:
        """The tail of the problem's type: its code, or `blank`."""
        kind: str | None = self.members.get("type")
        return None if kind is None else kind.rpartition(":")[2]


@dataclass(frozen=True)
class Server:
    """Where the server listens, all that it logged, and how many connections it has."""

    port: int
    log: list[dict[str, Any]]
    connections: Callable[[], int] = lambda: 0

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def send(self, data: bytes, *, then_close: bool = False) -> Answer | None:
        """Send `data` on a connection of its own; the answer, or None if the server closes without one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if then_close:
                writer.write_eof()
            return await read_answer(reader, head=data.startswith(b"HEAD "))
        finally:
            writer.close()


async def read_answer(reader: asyncio.StreamReader, *, head: bool = False) -> Answer | None:
    """The next answer on a connection, or None if it ends first."""
    try:
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = b"" if head else await reader.readexactly(int(headers["content-length"]))
    is_json = "json" in headers.get("content-type", "")
    return Answer(int(first.split()[1]), headers, json.loads(body) if body and is_json else {})


def raw(method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes = b"", version: str = "1.1") -> bytes:
    """One HTTP request; text that is not ASCII goes out as UTF-8."""
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode() + body


@asynccontextmanager
async def serving(
    routes: Sequence[web.RouteDef],
    *,
    limits: Limits | None = None,
    incident: Callable[[], str] | None = None,
    watchers: Sequence[Watcher] = (),
    nonces: ServerNonces | None = None,
    draining: Callable[[], bool] = lambda: False,
    clock: Callable[[], float] = time.monotonic,
    charge: Callable[[str | None], None] = lambda _: None,
    key: Callable[[str | None], str | None] = address_key,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[Server]:
    """Serve `routes` as the daemon does, on the same site as the daemon."""
    capture = LogCapture()
    log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        None, processors=[capture], wrapper_class=structlog.stdlib.BoundLogger
    )
    numbers = count(1)
    problems = answering(log, incident or (lambda: f"n{next(numbers)}"), *watchers, clock=clock)
    tell = telling(nonces or ServerNonces(os.urandom, time.monotonic))
    runner = web.ServerRunner(dispatching(routes, problems, tell), shutdown_timeout=1)
    await runner.setup()
    try:
        site = Site(
            *(runner, "127.0.0.1", 0),
            tell=tell,
            log=log,
            limits=limits or Limits(),
            draining=draining,
            clock=clock,
            charge=charge,
            key=key,
            tls=tls,
        )
        await site.start()
        yield Server(runner.addresses[0][1], capture.entries, lambda: site.connections)  # type: ignore[arg-type]  # dicts, by another name
    finally:
        await runner.cleanup()
