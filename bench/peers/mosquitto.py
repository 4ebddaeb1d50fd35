"""Mosquitto with its dynamic security plugin: users with passwords, and a role that says which topics they may use.

MQTT 3.1.1 as far as a benchmark needs it (https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/), quality of service 1: the
server has acknowledged every message to its sender, and each receiver to the server.
"""

import asyncio
import hashlib
import json
import os
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import cast

from bench.programs import fresh, listening, running
from unibus.cluster.ports import free_ports

PROMISE = "sent: in the clear, users and topics checked, acknowledged from memory (defaults, unbounded queues)"
MISSING = "mosquitto is left out: install the packages in bench/peers.txt"
PLUGIN = "mosquitto_dynamic_security.so"
USER, PASSWORD = "bench", "bench"
ITERATIONS = 101  # the plugin's own
TOPIC = b"room/1"

_CONNECT, _PUBLISH, _PUBACK, _SUBSCRIBE = 0x10, 0x30, 0x40, 0x82
_QOS1 = 0x02


def found() -> tuple[str, Path] | None:
    """The program and its plugin; None where they are not installed."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    plugin = next(Path("/usr/lib").glob(f"*/{PLUGIN}"), None)
    return (program, plugin) if program and plugin else None


@asynccontextmanager
async def server(where: Path, program: str, plugin: Path) -> AsyncIterator[int]:
    """A server with one user and one role; gives its port. Raises StartRefused."""
    (port,) = free_ports(1)
    security = fresh(where) / "security.json"
    security.write_text(json.dumps(_security(os.urandom(12))))
    config = where / "mosquitto.conf"
    lines = (
        f"listener {port} 127.0.0.1",
        "allow_anonymous false",
        f"plugin {plugin}",
        f"plugin_opt_config_file {security}",
        "max_queued_messages 0",  # all others drop what a receiver is slow to take
        "user root",
    )
    config.write_text("\n".join([*lines, ""]))
    async with running([program, "-c", str(config)], where / "mosquitto.log"):
        await listening(port)
        yield port


def _security(salt: bytes) -> dict[str, object]:
    digest = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), salt, ITERATIONS)
    may = [{"acltype": kind, "topic": "room/#", "allow": True} for kind in ("publishClientSend", "subscribePattern")]
    user = {"username": USER, "roles": [{"rolename": "member"}], "iterations": ITERATIONS}
    return {
        "defaultACLAccess": {
            "publishClientSend": False,
            "publishClientReceive": True,
            "subscribe": False,
            "unsubscribe": True,
        },
        "roles": [{"rolename": "member", "acls": may}],
        "clients": [user | {"password": b64encode(digest).decode(), "salt": b64encode(salt).decode()}],
    }


class Client(asyncio.Protocol):
    """One connection. `ready` is done when it is let in and, if it is a receiver, subscribed.

    `arrived` hears of each message.
    """

    def __init__(self, name: str, arrived: Callable[[], None] | None) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._name = name
        self._arrived = arrived
        self._received = b""
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Log in."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so
        header = _text(b"MQTT") + bytes([4, 0b1100_0010]) + (0).to_bytes(2, "big")
        login = _text(self._name.encode()) + _text(USER.encode()) + _text(PASSWORD.encode())
        self.transport.write(_packet(_CONNECT, header + login))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"mosquitto closed the connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        """Take all whole packets."""
        self._received += data
        answers = bytearray()
        at = 0
        while (found := _next(self._received, at)) is not None:
            start, end = found
            self._take(self._received[at], self._received[start:end], answers)
            at = end
        self._received = self._received[at:]
        if answers:
            self.transport.write(bytes(answers))

    def publish(self, body: bytes) -> None:
        """Send one message."""
        self._number = self._number % 65_535 + 1
        self.transport.write(_packet(_PUBLISH | _QOS1, _text(TOPIC) + self._number.to_bytes(2, "big") + body))

    def _take(self, kind: int, content: bytes, answers: bytearray) -> None:
        match kind & 0xF0:
            case 0x20 if content[1] != 0:
                self.ready.set_exception(ConnectionError(f"mosquitto refused the user: {content[1]}"))
            case 0x20 if self._arrived is not None:
                answers += _packet(_SUBSCRIBE, b"\0\1" + _text(TOPIC) + b"\1")
            case 0x20:
                self.ready.set_result(None)
            case 0x90 if content[2] == 1:
                self.ready.set_result(None)
            case 0x90:
                self.ready.set_exception(ConnectionError("mosquitto refused the subscription"))
            case 0x30 if self._arrived is not None:
                size = 2 + int.from_bytes(content[:2], "big")
                answers += _packet(_PUBACK, content[size : size + 2])
                self._arrived()


async def connect(port: int, name: str, arrived: Callable[[], None] | None = None) -> Client:
    """A connection that is let in, and subscribed if it is to hear. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(partial(Client, name, arrived), "127.0.0.1", port)
    await client.ready
    return client


def _packet(kind: int, content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes([kind]) + bytes(length) + content


def _next(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the content of the packet at `at` begins and ends; None if it is not all there."""
    size = shift = 0
    for place in range(at + 1, min(at + 5, len(data))):
        size |= (data[place] & 0x7F) << shift
        shift += 7
        if not data[place] & 0x80:
            end = place + 1 + size
            return (place + 1, end) if end <= len(data) else None
    return None


def _text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value
