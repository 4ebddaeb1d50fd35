"""Where one request ends and the next begins, asked of a real node: no two readings, and nothing slips in between.

A proxy that frames a request otherwise than the node does would let one person's bytes become another's request. So
what could be read in two ways is refused and ends the connection: what comes after it is no request any more.
"""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.e2e.conftest import options

from unibus.daemon.node import Node

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEXT = "GET /livez HTTP/1.1\nHost: h\nConnection: close\n\n"
"""The request that a proxy takes for the next one, or for a part of the body."""
POST = "POST /v1/bus HTTP/1.1\nHost: h\n"
CHUNKED = f"{POST}Transfer-Encoding: chunked\n\n"
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def port(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[int]:
    async with Node(options(tmp_path_factory.mktemp("framing") / "data")) as node:
        yield node.http_port


async def statuses(port: int, sent: bytes) -> list[int]:
    """The status of each answer, until the node ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        async with asyncio.timeout(20):
            return [int(status) for status in _STATUS.findall(await reader.read())]
    finally:
        writer.close()


def lines(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode("latin-1")


AMBIGUOUS = {
    "a length and chunks": f"{POST}Content-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n",
    "chunks and a length": f"{POST}Transfer-Encoding: chunked\nContent-Length: 4\n\n0\n\n",
    "two lengths": f"{POST}Content-Length: 3\nContent-Length: 4\n\nabc",
    "the same length twice": f"{POST}Content-Length: 3\nContent-Length: 3\n\nabc",
    "a list of lengths": f"{POST}Content-Length: 3, 3\n\nabc",
    "a length with a sign": f"{POST}Content-Length: +3\n\nabc",
    "a length with an underscore": f"{POST}Content-Length: 1_0\n\nabcdefghij",
    "a length in hexadecimal": f"{POST}Content-Length: 0x3\n\nabc",
    "a length in other digits": f"{POST}Content-Length: \xb3\n\nabc",
    "an empty length": f"{POST}Content-Length: \n\nabc",
    "a space before the colon": f"{POST}Transfer-Encoding : chunked\n\n0\n\n",
    "a space before the colon of the length": f"{POST}Content-Length : 3\n\nabc",
    "chunked twice": f"{POST}Transfer-Encoding: chunked, chunked\n\n0\n\n",
    "chunked, but not last": f"{POST}Transfer-Encoding: chunked, identity\n\n0\n\n",
    "chunked in a line, identity in another": f"{POST}Transfer-Encoding: chunked\nTransfer-Encoding: identity\n\n0\n\n",
    "identity and a length": f"{POST}Transfer-Encoding: identity\nContent-Length: 3\n\nabc",
    "an unknown coding": f"{POST}Transfer-Encoding: xchunked\n\n0\n\n",
    "a tab that is none": f"{POST}Transfer-Encoding: \x0bchunked\n\n0\n\n",
    "chunks in HTTP/1.0": f"{POST.replace('1.1', '1.0')}Transfer-Encoding: chunked\n\n0\n\n",
    "a chunk's size with 0x": f"{CHUNKED}0x1\nx\n0\n\n",
    "a chunk's size below zero": f"{CHUNKED}-1\nx\n0\n\n",
    "a chunk's size beyond 64 bits": f"{CHUNKED}{'f' * 17}\nx\n0\n\n",
    "a chunk that is longer than its size": f"{CHUNKED}1\nxyz0\n\n",
    "a header that goes on in the next line": "GET /livez HTTP/1.1\nHost: h\nX: a\n b\n\n",
    "a host that goes on in the next line": "GET /livez HTTP/1.1\nHost: h\n .example\n\n",
    "a first header that begins with a space": "GET /livez HTTP/1.1\n Host: h\n\n",
    "a header without a colon": "GET /livez HTTP/1.1\nHost: h\nX\n\n",
    "a header without a name": "GET /livez HTTP/1.1\nHost: h\n: x\n\n",
    "a name with a space": "GET /livez HTTP/1.1\nHost: h\nX Y: z\n\n",
    "a header with a zero byte": "GET /livez HTTP/1.1\nHost: h\nX: a\0b\n\n",
    "tabs in the first line": "GET\t/livez\tHTTP/1.1\nHost: h\n\n",
    "another version": "GET /livez HTTP/1.2\nHost: h\n\n",
    "the preface of HTTP/2": "PRI * HTTP/2.0\n\nSM\n\n",
    "only an authority": "GET h:80 HTTP/1.1\nHost: h\n\n",
    "a target that is none": "GET \\livez HTTP/1.1\nHost: h\n\n",
    "an unknown method": "SMUGGLE /livez HTTP/1.1\nHost: h\n\n",
}
BYTES = {
    "lines that end with a line feed alone": lines(NEXT).replace(b"\r\n", b"\n"),
    "one header that does": b"GET /livez HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
    "a carriage return alone": b"GET /livez HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
    "chunks that end with a line feed alone": lines(CHUNKED) + b"1\nx\n0\n\n",
    "a line feed in a chunk's extension": lines(CHUNKED) + b"1;a\nx\r\n0\r\n\r\n",
}


@pytest.mark.parametrize(
    "sent",
    [*map(lines, AMBIGUOUS.values()), *BYTES.values()],
    ids=[*AMBIGUOUS, *BYTES],
)
async def test_what_could_be_read_in_two_ways_is_refused_with_all_that_follows(port: int, sent: bytes) -> None:
    assert (await statuses(port, sent + lines(NEXT)))[-1:] == [400]
    assert await statuses(port, lines(NEXT)) == [200]


TWO = {
    "chunks": (f"{CHUNKED}3\nabc\n0\n\n", 403),
    "chunks with a header after them": (f"{CHUNKED}0\nX: y\n\n", 403),
    "a body that nobody asked for": ("GET /livez HTTP/1.1\nHost: h\nContent-Length: 3\n\nabc", 200),
    "a request in a body": (f"{POST}Content-Length: {len(lines(NEXT))}\n\n{NEXT}", 403),
    "HEAD, whose answer has no body": ("HEAD /v1/bus HTTP/1.1\nHost: h\n\n", 200),
    "HEAD of what needs a signature": ("HEAD /v1/directory/records HTTP/1.1\nHost: h\n\n", 405),
    "HEAD with a body": ("HEAD /livez HTTP/1.1\nHost: h\nContent-Length: 3\n\nabc", 200),
    "OPTIONS": ("OPTIONS /v1/bus HTTP/1.1\nHost: h\n\n", 405),
    "OPTIONS of everything": ("OPTIONS * HTTP/1.1\nHost: h\n\n", 404),
    "TRACE, which would show headers": ("TRACE /livez HTTP/1.1\nHost: h\n\n", 405),
    "an upgrade that is not taken": ("GET /livez HTTP/1.1\nHost: h\nConnection: upgrade\nUpgrade: websocket\n\n", 200),
    "a tunnel that is not made": ("CONNECT h:80 HTTP/1.1\nHost: h\n\n", 404),
    "another method in a header": ("GET /v1/bus HTTP/1.1\nHost: h\nX-HTTP-Method-Override: POST\n\n", 200),
    "another address in a header": ("GET /livez HTTP/1.1\nHost: h\nX-Original-URL: /nowhere\n\n", 200),
    "headers named as of one hop": ("GET /livez HTTP/1.1\nHost: h\nConnection: Host, Signature\n\n", 200),
    "a detour": ("GET /v1/../livez HTTP/1.1\nHost: h\n\n", 404),
    "an encoded detour": ("GET /v1/%2e%2e/livez HTTP/1.1\nHost: h\n\n", 404),
    "an encoded slash": ("GET /v1%2fbus HTTP/1.1\nHost: h\n\n", 404),
    "a path that looks like a host": ("GET //h/livez HTTP/1.1\nHost: h\n\n", 404),
    "an encoding cut short": ("GET /livez%2 HTTP/1.1\nHost: h\n\n", 404),
    "bytes that are no text": ("GET /v1/rooms/%ff/records HTTP/1.1\nHost: h\n\n", 401),
    "half a character": ("GET /v1/rooms/%ed%a0%80/records HTTP/1.1\nHost: h\n\n", 401),
    "a parameter of the path": ("GET /livez;x=1 HTTP/1.1\nHost: h\n\n", 404),
}


@pytest.mark.parametrize(("text", "status"), TWO.values(), ids=TWO)
async def test_the_next_request_begins_where_this_one_ends(port: int, text: str, status: int) -> None:
    assert await statuses(port, lines(text + NEXT)) == [status, 200]


HOSTS = ["", 'a"<script>', "[::1", "h:99999999", "a b", "h\u00e9", "evil.example", "h, i"]


@pytest.mark.parametrize("host", HOSTS)
async def test_no_answer_says_the_host_that_it_was_asked_by(port: int, host: str) -> None:
    """It would be a stranger's word in somebody's browser or cache."""
    for target in ("/docs", "/openapi.json", "/v1/bus", "/healthz", "/nowhere", "/docs/"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            lines(f"GET {target} HTTP/1.1\nHost: {host}\nX-Forwarded-Host: seen.example\nConnection: close\n\n")
        )
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.")
        assert b"location:" not in answer.partition(b"\r\n\r\n")[0].lower()
        for word in ("seen.example", "evil.example", "<script>", "99999999"):
            assert word.encode() not in answer
