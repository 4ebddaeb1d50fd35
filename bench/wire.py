"""A member's connection to the bus by hand: as little as there is between a clock and the socket."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from unibus.crypto.encoding import b64u
from unibus.crypto.nkeys import SigningKey
from unibus.model.subjects import events


class Refused(Exception):
    """The server's word instead of letting a connection in."""


@dataclass(frozen=True, slots=True)
class Wire:
    """An open connection. `seconds` is what letting it in took, `sent` the bytes of its CONNECT line."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seconds: float
    sent: int

    async def ended(self) -> float:
        """The moment at which the server ended it, by `time.perf_counter`; it is told meanwhile that we are there."""
        try:
            while data := await self.reader.read(65_536):
                if b"PING\r\n" in data:
                    self.writer.write(b"PONG\r\n")
        except ConnectionError:
            pass
        return time.perf_counter()

    def close(self) -> None:
        """End it without a word."""
        self.writer.transport.abort()


async def connect(port: int, key: SigningKey, rooms: Sequence[str] | None) -> Wire:
    """Connect as `key` and open `rooms`, or all there are; hears announcements. Raises Refused, OSError."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        nonce = await _greeted(reader)
        told: dict[str, object] = {"verbose": False, "pedantic": False, "lang": "x", "version": "1", "protocol": 1}
        told |= {"nkey": key.public, "sig": b64u(key.sign_nonce(nonce.encode()))}
        if rooms is not None:
            told["auth_token"] = "rooms=" + ",".join(rooms)
        line = b"CONNECT " + json.dumps(told).encode() + b"\r\n"
        writer.write(line + b"PING\r\nSUB " + events(key.public).encode() + b" 1\r\n")
        while (word := await reader.readline()).startswith(b"INFO"):
            pass
    except BaseException:
        writer.transport.abort()
        raise
    if word != b"PONG\r\n":
        writer.transport.abort()
        raise Refused(word.decode().strip() or "the connection was closed")
    return Wire(reader, writer, time.perf_counter() - began, len(line))


async def _greeted(reader: asyncio.StreamReader) -> str:
    """The nonce that the server wants signed. Raises Refused."""
    greeting = await reader.readline()
    if not greeting:
        raise Refused("the connection was closed")
    return str(json.loads(greeting.removeprefix(b"INFO "))["nonce"])
