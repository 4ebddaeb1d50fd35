"""The listener: what it says of itself, what of it is logged, and how connections end."""

import asyncio

import pytest
from aiohttp import web
from tests.http.serving import raw, read_answer, serving

from unibus.http.limits import Limits
from unibus.http.site import UNREADABLE_AT_ONCE


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


async def streamed(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = 2
    await response.prepare(request)
    await response.write(b"hi")
    return response


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (raw("GET", "/", [("Host", "h")]), 200),
        (raw("GET", "/streamed", [("Host", "h")]), 200),
        (raw("GET", "/nowhere", [("Host", "h")]), 404),
        (raw("POST", "/", [("Host", "h")]), 405),
        (raw("GET", "/", [("Host", "h"), ("Expect", "a miracle")]), 417),
        (raw("GET", "/" + "a" * 9000, [("Host", "h")]), 414),
        (b"\x00\x01 what\r\n\r\n", 400),
    ],
    ids=["answer", "stream", "no route", "no method", "expectation", "too long", "no http"],
)
async def test_every_answer_tells_the_nonce_and_none_the_versions(request_bytes: bytes, status: int) -> None:
    async with serving([web.get("/", hello), web.get("/streamed", streamed)]) as server, asyncio.timeout(10):
        answer = await server.send(request_bytes)
    assert answer is not None
    assert answer.status == status
    assert answer.headers["server"] == "unibus"
    assert len(answer.headers["unibus-nonce"]) == 22
    assert "aiohttp" not in str(answer.headers).lower()


async def test_what_is_no_request_fills_no_log() -> None:
    now = [100.0]
    async with serving([web.get("/", hello)], clock=lambda: now[0]) as server, asyncio.timeout(10):
        for _ in range(2 * UNREADABLE_AT_ONCE):
            answer = await server.send(b"what\r\n\r\n")
            assert answer is not None
            assert answer.status == 400
        assert [entry["left_out"] for entry in server.log] == [0] * UNREADABLE_AT_ONCE
        now[0] += 3600
        for _ in range(2):
            await server.send(b"what\r\n\r\n")
    assert [entry["left_out"] for entry in server.log][-2:] == [UNREADABLE_AT_ONCE, 0]


@pytest.mark.parametrize("target", ["/", "/nowhere"])
async def test_a_node_that_ends_lets_each_connection_go_with_its_next_answer(target: str) -> None:
    draining = False

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async with serving([web.get("/", hello)], draining=lambda: draining) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for ends in (False, True):
            draining = ends
            writer.write(raw("GET", target, [("Host", "h")]))
            answer = await read_answer(reader)
            assert answer is not None
            assert answer.headers.get("connection") == ("close" if ends else None)
        assert await reader.read() == b""
        writer.close()


async def test_who_has_sent_the_next_request_already_does_not_rest() -> None:
    """Both came at once: the second is at work when others look for room."""
    begun, ends = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        begun.set()
        await ends.wait()
        return web.Response(text="late")

    routes = [web.get("/", hello), web.get("/slow", slow)]
    async with serving(routes, limits=Limits(connections=1)) as server, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(raw("GET", "/", [("Host", "h")]) + raw("GET", "/slow", [("Host", "h")]))
        await begun.wait()
        await server.send(raw("GET", "/", [("Host", "h")]))
        ends.set()
        answers = [await read_answer(reader) for _ in range(2)]
        writer.close()
    assert [answer and answer.status for answer in answers] == [200, 200]
