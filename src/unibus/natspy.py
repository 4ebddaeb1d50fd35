"""nats-py's client, made to outlive what others send: one message that cannot be read costs that message only.

Reply subjects and headers are whatever their publisher wrote; nats-server looks at neither. In nats-py one that is no
text, or has an odd blank in it, ends the reading of a connection, mostly without anybody being told. And what a server
announces is taken in without a bound. Must never drop a message for its headers: its receiver counts it.
"""

import json
from typing import Any

from nats.aio.client import Client as Nats
from nats.errors import Error, ProtocolError
from nats.protocol.parser import Parser

LONGEST_LINE = 2**17
"""Bytes of a line; a member's may be nearly half of it, see `bus.config`."""
LARGEST_MESSAGE = 64 * 2**20
"""Bytes of a message with its headers: the most that a nats-server can be told to take."""


class Wire(Parser):
    """The protocol as a client reads it, divided only where nats-server divides: at single blanks and line ends."""

    def reset(self) -> None:
        """Begin anew, on a new connection."""
        super().reset()
        self._coming: tuple[int, bytes, bytes, int, int] | None = None

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read. Raises ProtocolError for what no nats-server sends, or nobody should keep."""
        buffer: bytearray = self.buf
        buffer += data
        while buffer:
            if self._coming is None:
                end = buffer.find(b"\r\n", 0, LONGEST_LINE)
                if end < 0:
                    if len(buffer) >= LONGEST_LINE:
                        raise ProtocolError
                    return
                line = bytes(buffer[:end])
                del buffer[: end + 2]
                await self._take(line)
            else:
                sid, subject, reply, headers, size = self._coming
                if len(buffer) < size + 2:
                    return
                with memoryview(buffer) as seen:  # so that nothing is copied twice
                    shown, payload = bytes(seen[:headers]), bytes(seen[headers:size])
                del buffer[: size + 2]
                self._coming = None
                await self.nc._process_msg(sid, subject, reply, payload, shown or None)  # noqa: SLF001 - its parser

    def half(self, sid: int) -> int:
        """How many bytes are here of a message to the subscription `sid` that is not all here."""
        return len(self.buf) if self._coming is not None and self._coming[0] == sid else 0

    async def _take(self, line: bytes) -> None:
        client = self.nc
        kind, _, rest = line.partition(b" ")
        match kind:
            case b"MSG" | b"HMSG":
                self._coming = _announced(rest.split(b" "), with_headers=kind == b"HMSG")
            case b"PING":
                await client._process_ping()  # noqa: SLF001 - the same
            case b"PONG":
                await client._process_pong()  # noqa: SLF001 - the same
            case b"+OK":
                pass
            case b"-ERR":
                await client._process_err(rest.decode(errors="replace").lower())  # noqa: SLF001 - the same
            case b"INFO":
                try:
                    await client._process_info(json.loads(rest))  # noqa: SLF001 - the same
                except Exception as error:
                    raise ProtocolError from error
            case _:
                raise ProtocolError


def _announced(words: list[bytes], *, with_headers: bool) -> tuple[int, bytes, bytes, int, int]:
    """A message to come: subscription, subject, reply, bytes of headers, bytes in all. Raises ProtocolError."""
    numbers = 2 if with_headers else 1
    if not numbers + 2 <= len(words) <= numbers + 3:
        raise ProtocolError
    subject, sid, *reply = words[:-numbers]
    try:
        found, *sizes = map(int, (sid, *words[-numbers:]))
    except ValueError as error:
        raise ProtocolError from error
    headers, size = (sizes[0], sizes[1]) if with_headers else (0, sizes[0])
    if not 0 <= headers <= size <= LARGEST_MESSAGE:
        raise ProtocolError
    return found, subject, reply[0] if reply else b"", headers, size


class Client(Nats):
    """nats-py's client; `error_cb` is told of what could not be read."""

    def __init__(self) -> None:
        super().__init__()
        self._ps = Wire(self)

    async def _process_connect_init(self) -> None:
        try:
            await super()._process_connect_init()
        except OSError:
            raise  # a certificate that is refused is a ValueError besides
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            raise Error(f"nats: no nats-server greets like this: {error!r}") from error

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next message has nothing to do with it
            await self._error_cb(error)

    async def _process_headers(self, headers: Any) -> dict[str, str] | None:
        try:
            return await super()._process_headers(headers)
        except Exception as error:  # noqa: BLE001 - the same
            await self._error_cb(error)
            return None
