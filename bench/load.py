"""An HTTP load generator that costs little: requests are bytes made beforehand, answers are only counted.

It shares the machine with the server that it drives, so whatever it spends is missing there.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import cast


class _Caller(asyncio.Protocol):
    """One kept-alive connection that takes the next request as soon as the last one is answered."""

    def __init__(self, waiting: deque[bytes], done: "asyncio.Future[None]") -> None:
        self._waiting = waiting
        self._done = done
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if not head.startswith(b"HTTP/1.1 200 "):
            self._fail(f"the server answered {head.splitlines()[0].decode()}: {body.decode(errors='replace')}")
            return
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
        if len(body) >= int(length):
            self._received = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the server closed the connection: {exc}")

    def _next(self) -> None:
        if self._waiting:
            self._transport.write(self._waiting.popleft())
        elif not self._done.done():
            self._done.set_result(None)

    def _fail(self, reason: str) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError(reason))


async def rate(port: int, requests: Sequence[bytes], at_once: int) -> float:
    """Answered requests a second with `at_once` of them under way. Raises OSError for any answer but 200."""
    loop = asyncio.get_running_loop()
    waiting = deque(requests)
    callers = [loop.create_future() for _ in range(at_once)]
    begin = time.perf_counter()
    transports = []
    try:
        for done in callers:
            transport, _ = await loop.create_connection(partial(_Caller, waiting, done), "127.0.0.1", port)
            transports.append(transport)
        await asyncio.gather(*callers)
    finally:
        for transport in transports:
            transport.close()
    return len(requests) / (time.perf_counter() - begin)
