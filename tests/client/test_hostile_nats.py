"""A data plane that lies: it cannot get anything signed but a nonce, and nobody waits for it without end."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence

import pytest
from aiohttp import web

from tests.builders import identity
from tests.client.hostile import Server, always
from unibus import connect
from unibus.client.outbox import Outbox
from unibus.client.sealer import Seal
from unibus.crypto.frames import MESSAGES, Purpose
from unibus.errors import BusUnavailable, NotAUser, UnibusError, Untrusted

BOB = identity("bob")


class FakeNats:
    """Greets as a nats-server with a nonce of its choice, keeps what it is sent, answers nothing."""

    def __init__(self) -> None:
        self.nonce = "an-honest-nonce"
        self.connects: asyncio.Queue[dict[str, object]] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {
            "server_id": "N",
            "version": "2.15.1",
            "max_payload": 1048576,
            "headers": True,
            "auth_required": True,
            "nonce": self.nonce,
        }
        writer.write(f"INFO {json.dumps(info)}\r\n".encode())
        try:
            while line := await reader.readline():
                if line.startswith(b"CONNECT "):
                    self.connects.put_nowait(json.loads(line.removeprefix(b"CONNECT ")))
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def fake(server: Server) -> AsyncIterator[FakeNats]:
    """Listens where the control plane says that NATS is."""
    fake = FakeNats()
    async with await asyncio.start_server(fake.serve, "127.0.0.1", 0) as listening:
        server.nats_port = listening.sockets[0].getsockname()[1]
        yield fake


def signing_input(payload: bytes) -> str:
    """What the signature of a record covers: who gets this signed can speak as the user."""
    header = {"alg": "EdDSA", "kid": BOB.user, "typ": "unibus-record+jws"}
    parts = (json.dumps(header).encode(), payload)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@pytest.mark.parametrize(
    "nonce",
    [
        signing_input(b'{"type":"user.revoke"}'),
        '"@method": POST\n"@target-uri": http://here/',
        "",
        "n" * 500,
        "nonce é",
    ],
    ids=["record", "request", "empty", "long", "foreign"],
)
async def test_nothing_but_a_nonce_is_signed_for_a_server(server: Server, fake: FakeNats, nonce: str) -> None:
    fake.nonce = nonce
    async with asyncio.timeout(10), connect(server.url, BOB) as bus:
        with pytest.raises(Untrusted, match="not a nonce"):
            await bus.link.connection()
    assert fake.connects.empty()


async def test_a_nonce_is_signed_and_the_seed_is_not_shown(server: Server, fake: FakeNats) -> None:
    async with asyncio.timeout(10), connect(server.url, BOB) as bus:
        bus.link.start()
        said = await fake.connects.get()
    assert said["nkey"] == BOB.user
    assert base64.b64decode(str(said["sig"])) == BOB.signing.sign(b"an-honest-nonce")
    assert BOB.seed not in json.dumps(said)


def seal(
    messages: Sequence[bytes],
    purpose: Purpose = MESSAGES,
    *,
    unsettled: int = 0,
    instead: tuple[bytes, int] | None = None,
) -> bytes:
    raise AssertionError(f"nothing is sealed where there is no bus: {messages!r}, {purpose}, {unsettled}, {instead}")


async def prepare(_doubt: bool) -> Seal:
    return seal


async def test_a_message_fails_at_its_deadline_while_there_is_no_bus(server: Server) -> None:
    async with asyncio.timeout(10), connect(server.url, BOB) as bus:
        outbox = Outbox(bus.link, "a" * 26, BOB.user, prepare, lambda: None, deadline=0.3)
        try:
            sent = [outbox.post(b"one"), outbox.post(b"two")]
            for one in sent:
                with pytest.raises(BusUnavailable, match=r"within 0\.3 s"):
                    await one
            with pytest.raises(BusUnavailable):
                await outbox.drain()
            await outbox.drain()
            with pytest.raises(BusUnavailable):
                await outbox.post(b"three")
        finally:
            await outbox.close()


async def test_what_was_not_sent_at_the_end_fails(server: Server, plans: str) -> None:
    async with asyncio.timeout(10), connect(server.url, BOB) as bus:
        room = await bus.room("plans")
        assert room.id == plans
        sent = room.post("too late")
    with pytest.raises(BusUnavailable, match="closed"):
        await sent
    with pytest.raises(BusUnavailable, match="closed"):
        room.post("even later")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(403, "not-a-user", NotAUser), (403, "wrong-bus", UnibusError)],
)
async def test_a_link_ends_with_why_it_may_not_come_back(
    server: Server, status: int, code: str, kind: type[UnibusError]
) -> None:
    async with asyncio.timeout(10), connect(server.url, BOB) as bus:
        body = f'{{"type":"urn:unibus:problem:{code}"}}'.encode()
        server.answers["/v1/directory/records"] = always(status, body)
        with pytest.raises(kind):
            await bus.link.connection()


async def test_a_link_ends_when_what_says_where_the_bus_is_makes_no_sense(server: Server) -> None:
    async with asyncio.timeout(10), connect(server.url, BOB) as bus:
        server.answers["/v1/bus"] = always(200, b"hello")
        with pytest.raises(Untrusted):
            await bus.link.connection()


@pytest.mark.parametrize("greeting", [b"INFO []\r\n", b"INFO " + bytes(200_000)], ids=lambda said: str(said[:9]))
async def test_a_link_outlives_a_greeting_that_is_none(server: Server, greeting: bytes) -> None:
    came: asyncio.Queue[None] = asyncio.Queue()

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(None)
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as listening:
        server.nats_port = listening.sockets[0].getsockname()[1]
        async with asyncio.timeout(20), connect(server.url, BOB) as bus:
            bus.link.start()
            for _ in range(2):
                await came.get()


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_link_outlives_a_control_plane_that_stumbles(server: Server, fake: FakeNats, status: int) -> None:
    async with asyncio.timeout(20), connect(server.url, BOB, deadline=0.3) as bus:
        asked: asyncio.Queue[str] = asyncio.Queue()

        async def stumble(request: web.Request) -> web.Response:
            asked.put_nowait(request.path)
            return web.Response(status=status)

        server.answers["/v1/bus"] = stumble
        bus.link.start()
        for _ in range(3):
            await asked.get()
        assert fake.connects.empty()
        server.answers.clear()
        assert (await fake.connects.get())["nkey"] == BOB.user
