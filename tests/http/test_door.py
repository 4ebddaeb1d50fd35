"""Connections over TLS before they have shaken hands: none is beyond counting, and none keeps others out."""

import asyncio
import os
import resource
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from tests.http.serving import Answer, Server, raw, read_answer, serving
from tests.support.pki import Authority

from unibus.client.trust import make_context
from unibus.http.door import HANDSHAKE_SECONDS
from unibus.http.limiting import Limiter
from unibus.http.limits import Limits

GET = raw("GET", "/", [("Host", "h")])
HERE, ELSEWHERE, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def trust(authority: Authority) -> ssl.SSLContext:
    return make_context(authority.ca)


@asynccontextmanager
async def safe(authority: Authority, limits: Limits) -> AsyncIterator[Server]:
    """A server with TLS, to which loopback addresses are like any other."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.server())
    limiter = Limiter(limits, lambda: 0.0, key=lambda peer: peer)
    served = serving(
        [web.get("/", hello)],
        limits=limits,
        watchers=[limiter],
        charge=limiter.charge,
        key=lambda peer: peer,
        tls=tls,
    )
    async with served as server, asyncio.timeout(20):
        yield server


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[Server]:
    """One with room for four."""
    async with safe(authority, Limits(connections=4)) as server:
        yield server


async def silent(server: Server, address: str) -> Streams:
    """A connection from there that does not shake hands; counted when this returns, or ended."""
    before = server.connections()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0))
    while server.connections() == before and not reader.at_eof():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    return reader, writer


async def ask(server: Server, trust: ssl.SSLContext, address: str) -> Answer | None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0), ssl=trust)
    writer.write(GET)
    try:
        return await read_answer(reader)
    finally:
        writer.transport.abort()


async def test_who_shakes_hands_is_answered_and_leaves(server: Server, trust: ssl.SSLContext) -> None:
    for _ in range(10):
        answer = await ask(server, trust, HERE)
        assert answer is not None
        assert answer.status == 200
    while server.connections():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)


async def test_one_connection_carries_many_requests(server: Server, trust: ssl.SSLContext) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trust)
    for _ in range(3):
        writer.write(GET + GET)
        answers = [await read_answer(reader) for _ in range(2)]
        assert [answer and answer.status for answer in answers] == [200, 200]
    assert server.connections() == 1
    writer.close()


async def test_who_does_not_shake_hands_is_counted_and_makes_room(server: Server, trust: ssl.SSLContext) -> None:
    held = [await silent(server, address) for address in (ELSEWHERE, ELSEWHERE, THIRD, THIRD)]
    assert server.connections() == 4
    answer = await ask(server, trust, HERE)
    assert answer is not None
    assert answer.status == 200
    async with asyncio.timeout(HANDSHAKE_SECONDS / 2):  # it is not waited for any longer
        assert await held[0][0].read() == b""  # the longest idle of those that hold most
    for _, writer in held:
        writer.close()


async def test_one_address_has_half_also_before_it_has_shaken_hands(server: Server, trust: ssl.SSLContext) -> None:
    held = [await silent(server, ELSEWHERE) for _ in range(8)]
    assert server.connections() == 4  # two of them inside, two that would be told
    for reader, _ in held[4:]:
        assert await reader.read() == b""
    answers = [await ask(server, trust, address) for address in (HERE, THIRD)]
    assert [answer and answer.status for answer in answers] == [200, 200]
    for _, writer in held:
        writer.close()


async def test_who_is_one_too_many_is_told_so_after_the_handshake(server: Server, trust: ssl.SSLContext) -> None:
    held = [await silent(server, ELSEWHERE) for _ in range(2)]
    answer = await ask(server, trust, ELSEWHERE)
    assert answer is not None
    assert (answer.status, answer.problem) == (503, "connections-exhausted")
    for _, writer in held:
        writer.close()


async def test_a_connection_for_which_there_is_no_file_ends_and_is_not_counted(server: Server) -> None:
    """A client here, a connection there, and none for what its handshake needs."""
    free = [os.dup(0) for _ in range(3)]
    for each in free:
        os.close(each)
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free), most))
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader.read() == b""
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
    assert server.connections() == 0
    writer.close()


async def test_a_handshake_costs_as_much_as_ten_requests(authority: Authority, trust: ssl.SSLContext) -> None:
    async with safe(authority, Limits(rate_per_address=3)) as server:
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trust)
            writer.transport.abort()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=trust)
        assert [(entry["event"], entry["peer"]) for entry in server.log] == [("handshakes too often", HERE)]
        answer = await ask(server, trust, ELSEWHERE)
        assert answer is not None
        assert answer.status == 200


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x02\x01\x00"])
async def test_a_handshake_that_fails_leaves_nothing(server: Server, said: bytes) -> None:
    reader, writer = await silent(server, HERE)
    writer.write(said)
    writer.write_eof()
    await reader.read()
    while server.connections():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    writer.close()
    assert server.log == []
