"""Somebody between client and node, or the node itself, who would rather have messages travel without TLS."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.builders import identity
from tests.client.hostile import Server, serving
from tests.client.world import World
from tests.support.pki import Authority
from unibus import connect
from unibus.errors import CertificateRefused, TlsDowngraded

BOB = identity("bob")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


def served(authority: Authority) -> ssl.SSLContext:
    """What a server with a certificate of `authority` listens with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server())
    return context


class Wire:
    """Listens where NATS should be, says what a server without TLS says, and keeps what clients send."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = {"server_id": "N", "version": "2.15.1", "max_payload": 1 << 20, "auth_required": True, "nonce": "n" * 16}
        writer.write(f"INFO {json.dumps(info)}\r\n".encode())
        self.heard.put_nowait(await reader.read(4096))
        writer.close()


@asynccontextmanager
async def wire(server: Server, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A `Wire` at the place that `server` names."""
    found = Wire()
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=tls) as listening:
        server.nats_port = listening.sockets[0].getsockname()[1]
        yield found


async def test_a_bus_without_tls_behind_https_is_refused_by_name(world: World, authority: Authority) -> None:
    async with asyncio.timeout(20), serving(world, served(authority)) as server, wire(server) as nats:
        async with connect(server.url, BOB, ca=authority.ca) as bus:
            with pytest.raises(TlsDowngraded):
                await bus.link.connection()
        assert nats.heard.empty()


async def test_it_is_used_if_that_is_asked_for(world: World, authority: Authority) -> None:
    async with (
        asyncio.timeout(20),
        serving(world, served(authority)) as server,
        wire(server) as nats,
        connect(server.url, BOB, ca=authority.ca, plain_bus=True) as bus,
    ):
        bus.link.start()
        assert (await nats.heard.get()).startswith(b"CONNECT ")


async def test_who_strips_tls_from_the_bus_hears_nothing_but_the_start_of_a_handshake(
    world: World, authority: Authority
) -> None:
    async with asyncio.timeout(20), serving(world, served(authority)) as server, wire(server) as nats:
        server.nats_tls = True
        async with connect(server.url, BOB, ca=authority.ca) as bus:
            bus.link.start()
            for _ in range(2):
                assert (await nats.heard.get())[:2] == b"\x16\x03"  # a TLS handshake record (RFC 8446 section 5.1)


async def test_another_authoritys_certificate_on_the_bus_is_refused_by_name(
    world: World, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    async with asyncio.timeout(20), serving(world, served(authority)) as server, wire(server, served(other)) as nats:
        server.nats_tls = True
        async with connect(server.url, BOB, ca=authority.ca) as bus:
            with pytest.raises(CertificateRefused, match=r"127\.0\.0\.1"):
                await bus.link.connection()
        assert nats.heard.empty()
