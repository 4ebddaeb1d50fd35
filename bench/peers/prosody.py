"""Prosody, an XMPP server, with Debian's modules and a multi-user chat: one room, everybody in it.

XMPP as far as a benchmark needs it: RFC 6120, in-band registration (XEP-0077) and rooms (XEP-0045). What comes is cut
at the ends of stanzas and never parsed: this process must not take from the server what it is measured by.
"""

import asyncio
import os
import secrets
import shutil
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from bench.programs import fresh, listening, running
from unibus.cluster.ports import free_ports
from unibus.tasks import end_tasks

PROMISE = "sent: in the clear, users and rights checked, not stored (defaults, no rate limits, no TLS)"
MISSING = "prosody is left out: install the packages in bench/peers.txt"
HOST, ROOMS = "localhost", "rooms.localhost"
PASSWORD = secrets.token_hex(8)
# What Debian's configuration enables, without its limits of 10 kB/s a client and what nobody here would connect to.
MODULES = (
    *("disco", "roster", "saslauth", "tls", "blocklist", "bookmarks", "carbons", "pep", "private", "smacks", "vcard4"),
    *("vcard_legacy", "csi_simple", "ping", "register", "time", "uptime", "version", "posix"),
)


def found() -> str | None:
    """The program; None where it is not installed."""
    return shutil.which("prosody", path=f"{os.environ.get('PATH', '')}:/usr/bin")


@asynccontextmanager
async def server(where: Path, program: str) -> AsyncIterator[int]:
    """A server with rooms, on which anybody may register; gives its port."""
    (port,) = free_ports(1)
    config = fresh(where) / "prosody.cfg.lua"
    lines = (
        "run_as_root = true",  # in a container there may be nobody else
        f'data_path = "{where}"',
        f'pidfile = "{where}/prosody.pid"',
        'log = { warn = "*console" }',
        'interfaces = { "127.0.0.1" }',
        f"c2s_ports = {{ {port} }}",
        'modules_disabled = { "s2s" }',  # one server
        "modules_enabled = { " + " ".join(f'"{module}";' for module in MODULES) + " }",
        'authentication = "internal_hashed"',
        "allow_registration = true",
        "c2s_require_encryption = false",
        "allow_unencrypted_plain_auth = true",
        f'VirtualHost "{HOST}"',
        f'Component "{ROOMS}" "muc"',
    )
    config.write_text("\n".join([*lines, ""]))
    async with running([program, "-F", "--config", str(config)], where / "prosody.log"):
        await listening(port)
        yield port


class Client:
    """One user's connection. Made by `connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def log_in(self, name: str) -> None:
        """Register as `name`, log in, and have the connection named. Raises OSError."""
        await self._begin_stream()
        await self._ask(
            f"<query xmlns='jabber:iq:register'><username>{name}</username><password>{PASSWORD}</password></query>"
        )
        plain = b64encode(f"\0{name}\0{PASSWORD}".encode()).decode("ascii")
        self._say(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>")
        await self._until(b"<success")
        await self._begin_stream()
        await self._ask("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>")

    async def enter(self, room: str, nick: str) -> None:
        """Be in the room, which is made if nobody is. Raises OSError."""
        self._say(f"<presence to='{room}/{nick}'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
        await self._until(b"subject")  # XEP-0045, 7.1: the last of what somebody is sent who enters

    async def open_to_others(self, room: str) -> None:
        """Take a new room as it comes (XEP-0045, 10.1.2). Raises OSError."""
        form = "<x xmlns='jabber:x:data' type='submit'/>"
        await self._ask(f"<query xmlns='http://jabber.org/protocol/muc#owner'>{form}</query>", f" to='{room}'")

    async def send_all(self, room: str, text: str, count: int) -> None:
        """Send so many messages."""
        for number in range(count):
            self._say(f"<message to='{room}' type='groupchat' id='{number}'><body>{text}</body></message>")
            await self._writer.drain()

    async def follow(self, arrived: Callable[[], None]) -> None:
        """Hear of messages from now on, until the connection ends."""
        kept = b""
        while data := await self._reader.read(65_536):
            *whole, kept = (kept + data).split(b"</message>")
            for _ in whole:
                arrived()

    def close(self) -> None:
        """End it without a word."""
        self._writer.transport.abort()

    async def _begin_stream(self) -> None:
        names = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
        self._say(f"<?xml version='1.0'?><stream:stream to='{HOST}' version='1.0' {names}>")
        await self._until(b"</stream:features")

    async def _ask(self, query: str, to: str = "") -> None:
        asked = secrets.token_hex(4)
        self._say(f"<iq type='set' id='{asked}'{to}>{query}</iq>")
        await self._until(f"id='{asked}'".encode())

    def _say(self, text: str) -> None:
        self._writer.write(text.encode("utf-8"))

    async def _until(self, mark: bytes) -> None:
        """Return after the tag that has `mark` in it."""
        while True:
            try:
                tag = await self._reader.readuntil(b">")
            except asyncio.IncompleteReadError as error:
                raise ConnectionError("prosody closed the connection") from error
            if b"type='error'" in tag or tag.startswith(b"<failure"):
                raise ConnectionError(f"prosody answered {tag.decode(errors='replace')}")
            if mark in tag:
                return


async def connect(port: int, name: str) -> Client:
    """A connection of the new user `name`. Raises OSError."""
    client = Client(*await asyncio.open_connection("127.0.0.1", port))
    try:
        await client.log_in(name)
    except BaseException:
        client.close()
        raise
    return client


@asynccontextmanager
async def room_with(port: int, receivers: int, arrived: Callable[[], None]) -> AsyncIterator[tuple[Client, str]]:
    """A sender and a room with so many besides; `arrived` hears of what each of them gets. Raises OSError."""
    room = f"fan-out-{receivers}@{ROOMS}"
    clients: list[Client] = []
    following: list[asyncio.Task[None]] = []
    try:
        sender = await connect(port, "sender")
        clients.append(sender)
        await sender.enter(room, "sender")
        await sender.open_to_others(room)
        following.append(asyncio.create_task(sender.follow(lambda: None)))  # its own come back to it, too
        for number in range(receivers):
            clients.append(await connect(port, f"reader-{number}"))
            await clients[-1].enter(room, f"reader-{number}")
            following.append(asyncio.create_task(clients[-1].follow(arrived)))
        yield sender, room
    finally:
        await end_tasks(*following)
        for client in clients:
            client.close()
