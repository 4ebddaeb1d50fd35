"""Connecting to a nats-server as fast as one process can: as little work a connection as the protocol allows.

Each connection logs in with an nkey, is let in, and is dropped at once. Must never be kinder to one server than to
another: what is sent differs only in the keys.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial
from typing import cast

from bench.wire import Refused
from unibus.crypto.encoding import b64u
from unibus.crypto.nkeys import SigningKey

_CONNECT = (
    'CONNECT {{"verbose":false,"pedantic":false,"lang":"x","version":"1","protocol":1,"nkey":"{}","sig":"{}",'
    '"auth_token":"rooms="}}\r\nPING\r\n'
)


class _Dial(asyncio.Protocol):
    """One connection, until it is let in."""

    def __init__(self, key: SigningKey, done: "asyncio.Future[None]") -> None:
        self._key = key
        self._done = done
        self._received = b""
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        self._received += data
        while not self._done.done():
            line, end, rest = self._received.partition(b"\r\n")
            if not end:
                return
            self._received = rest
            self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(Refused(f"the connection was closed: {exc}"))

    def _take(self, line: bytes) -> None:
        if line == b"PONG":
            self._done.set_result(None)
            self._transport.abort()
        elif line.startswith(b"-ERR"):
            self._done.set_exception(Refused(line.decode()))
            self._transport.abort()
        elif line.startswith(b"INFO") and b'"nonce"' in line and not self._greeted:
            self._greeted = True
            nonce = json.loads(line[4:])["nonce"].encode()
            text = _CONNECT.format(self._key.public, b64u(self._key.sign_nonce(nonce)))
            self._transport.write(text.encode("ascii"))


async def rate(port: int, keys: Sequence[SigningKey], count: int, at_once: int) -> float:
    """Connections a second that the server lets in, `at_once` under way, each as the next of `keys` in turn.

    Raises Refused, OSError.
    """
    loop = asyncio.get_running_loop()
    left = iter(range(count))

    async def caller() -> None:
        for number in left:
            done = loop.create_future()
            await loop.create_connection(partial(_Dial, keys[number % len(keys)], done), "127.0.0.1", port)
            await done

    begin = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(at_once)))
    return count / (time.perf_counter() - begin)
