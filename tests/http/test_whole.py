"""Answers that go out in one step are the bytes that aiohttp would have sent, and nothing slips into their headers."""

import asyncio
from collections.abc import Sequence

import pytest
from aiohttp import hdrs, web
from tests.http.serving import raw, serving

from unibus.http.whole import HEADERS, Whole

BODY = b'{"a":1}'
HOST = ("Host", "h")
LAST = [("Connection", "close")]


async def whole(_request: web.Request) -> web.Response:
    return Whole(BODY, 201)


async def by_aiohttp(_request: web.Request) -> web.Response:
    return web.Response(body=BODY, status=201, headers=HEADERS)


async def smuggling(_request: web.Request) -> web.Response:
    answer = Whole(BODY)
    answer.headers[hdrs.ETAG] = '"a"\r\nSet-Cookie: b'
    return answer


ROUTES = (web.get("/whole", whole), web.get("/aiohttp", by_aiohttp), web.get("/smuggling", smuggling))


def ask(target: str, headers: Sequence[tuple[str, str]] = (), method: str = "GET", version: str = "1.1") -> bytes:
    """A request for one of the routes."""
    return raw(method, target, [HOST, *headers], version=version)


async def answered(port: int, data: bytes) -> list[bytes]:
    """All lines that come back for `data` until the server ends the connection, the same each time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        got = (await reader.read()).split(b"\r\n")
    finally:
        writer.close()
    return [line.partition(b": ")[0] if line.startswith((b"Date", b"Unibus-Nonce")) else line for line in got]


@pytest.mark.parametrize(
    ("method", "headers", "version", "answers"),
    [
        ("GET", [], "1.1", 2),
        ("HEAD", [], "1.1", 2),
        ("GET", [("Connection", "close")], "1.1", 1),
        ("GET", [], "1.0", 1),
        ("GET", [("Connection", "keep-alive")], "1.0", 2),
        ("GET", [("Connection", "upgrade"), ("Upgrade", "websocket")], "1.1", 2),
    ],
    ids=["simple", "head", "last", "old", "old and kept", "upgrade"],
)
async def test_an_answer_is_what_aiohttp_sends(
    method: str, headers: list[tuple[str, str]], version: str, answers: int
) -> None:
    after = ask("/nowhere", LAST) if answers == 2 else b""
    async with serving(ROUTES) as server, asyncio.timeout(10):
        got, expected = [
            await answered(server.port, ask(target, headers, method, version) + after)
            for target in ("/whole", "/aiohttp")
        ]
    assert got == expected
    assert b"".join(got).count(b"HTTP/1.") == got.count(b"Date") == got.count(b"Unibus-Nonce") == answers
    assert (BODY in b"".join(got)) == (method != "HEAD")


@pytest.mark.parametrize("target", ["/whole", "/aiohttp"])
async def test_a_node_that_ends_says_so_with_the_answer(target: str) -> None:
    async with serving(ROUTES, draining=lambda: True) as server, asyncio.timeout(10):
        got = await answered(server.port, ask(target) + ask(target))
    assert got.count(b"HTTP/1.1 201 Created") == got.count(b"Connection: close") == 1


async def test_no_line_break_gets_into_a_header() -> None:
    async with serving(ROUTES) as server, asyncio.timeout(10):
        assert await answered(server.port, ask("/smuggling")) == [b""]


async def test_who_does_not_read_is_waited_for() -> None:
    begun = 0

    async def large(_request: web.Request) -> web.Response:
        nonlocal begun
        begun += 1
        return Whole(b"a" * 2**22)

    async with serving([*ROUTES, web.get("/large", large)]) as server, asyncio.timeout(20):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(ask("/large") * 20)
        await answered(server.port, ask("/whole") * 200 + ask("/nowhere", LAST))
        assert begun < 10  # the kernel takes some of them
        writer.transport.abort()


def test_answers_do_not_share_their_headers() -> None:
    Whole(BODY).headers[hdrs.ETAG] = '"a"'
    assert hdrs.ETAG not in Whole(BODY).headers
