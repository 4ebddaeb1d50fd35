"""What the bus tests stand on: a policy that is a plain table, members with real nkeys, raw NATS clients."""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from unibus.bus.plane import BusPlane
from unibus.crypto.encoding import b64u
from unibus.crypto.nkeys import SigningKey, encode_seed
from unibus.errors import NotAUser, NotFound
from unibus.model import subjects
from unibus.services.ports import Grants

Login = Callable[[str], Mapping[str, object]]
"""What a client puts into its CONNECT, given the server's nonce."""
ROOM, OTHER_ROOM = "a" * 26, "b" * 26
WAIT = 10.0


class TablePolicy:
    """A `BusPolicy`: `rooms` says who may write where, `readers` who may read besides.

    While `gate` is closed, every question waits at it with the answer that was right when it was asked. A `failure`
    is raised instead of any answer.
    """

    def __init__(self) -> None:
        self.rooms: dict[str, set[str]] = {}
        self.readers: dict[str, set[str]] = {}
        self.asked: asyncio.Queue[str] = asyncio.Queue()
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    async def admit(self, user: str, rooms: Sequence[str] | None) -> Grants:
        if user not in self.rooms:
            raise NotAUser
        write = {room for room in self.rooms[user] if rooms is None or room in rooms}
        read = write | {room for room in self.readers.get(user, set()) if rooms is None or room in rooms}
        granted = Grants(user, tuple(sorted(write)), tuple(sorted(read)))
        await self._wait(user)
        return granted

    async def may_read(self, user: str, room: str) -> None:
        if user not in self.rooms:
            raise NotAUser
        if room not in self.rooms[user] | self.readers.get(user, set()):
            raise NotFound
        await self._wait(user)

    async def _wait(self, user: str) -> None:
        self.asked.put_nowait(user)
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure


@dataclass(frozen=True)
class Member:
    """An identity with its seed."""

    key: SigningKey = field(default_factory=lambda: SigningKey.from_seed(os.urandom(32)))

    @property
    def user(self) -> str:
        return self.key.public

    def sender(self, room: str = ROOM) -> str:
        return subjects.room_messages(room, self.user)


class Logbook:
    """Keeps what was logged and can wait for it."""

    def __init__(self) -> None:
        self.entries: list[Mapping[str, object]] = []
        self._more = asyncio.Event()
        self.logger = structlog.wrap_logger(
            structlog.PrintLogger(), [self._keep], wrapper_class=structlog.make_filtering_bound_logger(0)
        )

    def _keep(self, _logger: object, level: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        self.entries.append({**event, "level": level})
        self._more.set()
        raise structlog.DropEvent

    async def heard(self, event: str, *, within: float = WAIT, **expected: object) -> Mapping[str, object]:
        """The first entry called `event` with the values of `expected`, now or `within` seconds."""
        async with asyncio.timeout(within):
            while True:
                self._more.clear()
                for entry in self.entries:
                    if entry["event"] == event and expected.items() <= entry.items():
                        return entry
                await self._more.wait()


async def eventually(holds: Callable[[], bool]) -> None:
    """Return once `holds` is true; fail if that takes too long."""
    async with asyncio.timeout(WAIT):
        while not holds():  # noqa: ASYNC110 - what is waited for is another process's doing and sends no event
            await asyncio.sleep(0.005)


class Connection:
    """A member's NATS connection that keeps the server's complaints; it never reconnects."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.client = Client()
        self.complaints: asyncio.Queue[str] = asyncio.Queue()
        self.closed = asyncio.Event()

    async def open(self, port: int, rooms: str | None) -> None:
        async def complain(error: Exception) -> None:
            self.complaints.put_nowait(str(error))

        async def close() -> None:
            self.closed.set()

        await self.client.connect(
            f"nats://127.0.0.1:{port}",
            nkeys_seed_str=encode_seed("U", self.member.key.seed),
            token=rooms,
            inbox_prefix=subjects.inbox_prefix(self.member.user),
            allow_reconnect=False,
            max_reconnect_attempts=1,
            error_cb=complain,
            closed_cb=close,
        )

    async def refused(self) -> str:
        """The next complaint of the server."""
        async with asyncio.timeout(WAIT):
            return await self.complaints.get()

    async def publish(self, room: str = ROOM, data: bytes = b"frame", **headers: str) -> dict[str, object]:
        """Publish into `room` and return the acknowledgement."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = await self.client.request(self.member.sender(room), data, headers=named or None, timeout=WAIT)
        return dict(json.loads(reply.data))

    async def ask(self, request: object) -> dict[str, object]:
        """Ask the daemon for a delivery with the JSON `request`, or with bytes as they are."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        reply = await self.client.request(subjects.control(self.member.user, "deliver"), body, timeout=WAIT)
        return dict(json.loads(reply.data))

    async def read(self, room: str = ROOM, after: int | None = 0, token: str = "") -> "Reading":
        """Open a delivery."""
        reading = Reading(token or secrets.token_urlsafe(16), self.client)
        await self.client.subscribe(
            subjects.delivery(self.member.user, reading.token),
            cb=reading.take,
            pending_msgs_limit=-1,
            pending_bytes_limit=-1,
        )
        await self.client.flush()
        reading.answer = await self.ask({"room": room, "token": reading.token, "after": after})
        return reading


class Reading:
    """One delivery as its reader sees it; answers flow control as the protocol wants it."""

    def __init__(self, token: str, client: Client) -> None:
        self.token = token
        self.answer: dict[str, object] = {}
        self.flow_answers = 0
        self._client = client
        self._frames: asyncio.Queue[Msg] = asyncio.Queue()

    async def take(self, message: Msg) -> None:
        headers = message.headers or {}
        if headers.get("Status") is None:
            self._frames.put_nowait(message)
        elif answer := message.reply or headers.get("Nats-Consumer-Stalled"):
            self.flow_answers += 1
            await self._client.publish(answer)

    async def next(self) -> Msg:
        async with asyncio.timeout(WAIT):
            return await self._frames.get()

    async def bodies(self, count: int) -> list[bytes]:
        return [(await self.next()).data for _ in range(count)]

    @property
    def waiting(self) -> int:
        return self._frames.qsize()


@dataclass
class Stage:
    """A running bus, its policy table and its log."""

    plane: BusPlane
    policy: TablePolicy
    log: Logbook

    def member(self, *rooms: str) -> Member:
        """A new user who may write into `rooms`."""
        member = Member()
        self.policy.rooms[member.user] = set(rooms)
        return member

    @asynccontextmanager
    async def connect(self, member: Member, rooms: str | None = None) -> AsyncIterator[Connection]:
        connection = Connection(member)
        await connection.open(self.plane.client_port, rooms)
        try:
            yield connection
        finally:
            await connection.client.close()
            await connection.closed.wait()


async def shake_hands(port: int, options: Login) -> str:
    """Connect by hand with what `options` makes of the server's nonce; the server's first word: PONG or -ERR …"""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(WAIT):
            info = json.loads((await reader.readline()).removeprefix(b"INFO "))
            told = {"verbose": False, "pedantic": False, "lang": "test", "version": "1", "protocol": 1}
            writer.write(b"CONNECT " + json.dumps({**told, **options(info["nonce"])}).encode() + b"\r\nPING\r\n")
            while (line := await reader.readline()).startswith(b"INFO"):
                pass
            return line.decode().strip()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def signed(member: Member, nonce: str) -> dict[str, str]:
    """The login of `member` as clients other than nats-py write it."""
    return {"nkey": member.user, "sig": b64u(member.key.sign(nonce.encode()))}


def login_of(member: Member, **changed: object) -> Login:
    """A client that logs in as `member`, except for what is `changed`."""
    return lambda nonce: {**signed(member, nonce), **changed}


async def can_connect(stage: Stage, member: Member) -> bool:
    """Whether `member` is let in now."""
    connection = Connection(member)
    try:
        await connection.open(stage.plane.client_port, None)
    except nats.errors.Error:
        return False
    finally:
        await connection.client.close()
    return True
