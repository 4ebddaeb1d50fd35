"""An HTTP load generator that costs little: requests are bytes made beforehand, answers are only counted.

It shares the machine with the server that it drives, so whatever it spends is missing there.
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import cast

import aiohttp
from yarl import URL

from unibus.crypto.httpsig import NONCE_HEADER

_DONE = (b"HTTP/1.1 200 ", b"HTTP/1.1 201 ")


def request(method: str, url: URL, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """An HTTP/1.1 request, to the byte."""
    sized = {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))} if body else headers
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", f"Host: {url.authority}", *(f"{k}: {v}" for k, v in sized.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


async def server_nonce(url: URL, tls: ssl.SSLContext | None = None) -> str:
    """The nonce that the node at `url` gives out, which the client library would have from an earlier answer."""
    async with aiohttp.ClientSession() as session, session.get(url.with_path("/v1/bus"), ssl=tls or True) as answer:
        return answer.headers[NONCE_HEADER]


class _Caller(asyncio.Protocol):
    """One kept-alive connection that takes the next request as soon as the last one is answered."""

    def __init__(self, waiting: deque[bytes], done: "asyncio.Future[None]") -> None:
        self._waiting = waiting
        self._done = done
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(_DONE):
            self._fail(f"the server answered {head.splitlines()[0].decode()}: {body.decode(errors='replace')}")
            return
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if len(body) >= int(length):
            self._received = b""
            self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the server closed the connection: {exc}")

    def next(self) -> None:
        """Send the next request, if there is one."""
        if self._waiting:
            self.transport.write(self._waiting.popleft())
        elif not self._done.done():
            self._done.set_result(None)

    def _fail(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError(reason))


async def rate(port: int, requests: Sequence[bytes], at_once: int, tls: ssl.SSLContext | None = None) -> float:
    """Answered requests a second with `at_once` of them under way. Raises OSError for any answer but 200 and 201.

    The connections are there before the clock starts: shaking hands is not what is measured.
    """
    loop = asyncio.get_running_loop()
    waiting = deque(requests)
    done = [loop.create_future() for _ in range(at_once)]
    callers = []
    try:
        for one in done:
            _, caller = await loop.create_connection(partial(_Caller, waiting, one), "127.0.0.1", port, ssl=tls)
            callers.append(caller)
        begin = time.perf_counter()
        for caller in callers:
            caller.next()
        await asyncio.gather(*done)
        return len(requests) / (time.perf_counter() - begin)
    finally:
        for caller in callers:
            caller.transport.close()
