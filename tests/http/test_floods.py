"""Strangers who send without end, or read nothing: each loses its connection, and takes neither memory nor room."""

import asyncio
import contextlib
import re
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.conftest import options
from tests.http.serving import raw, read_answer
from tests.support.daemon import Daemon, spawn
from tests.support.pki import Authority

from unibus.client.trust import make_context
from unibus.daemon.node import Node
from unibus.http.limits import Limits

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST = [("Host", "h")]
GET = raw("GET", "/livez", HOST)
UPGRADE = [*HOST, ("Connection", "upgrade"), ("Upgrade", "websocket")]
MIB = 1024 * 1024
_RESIDENT = re.compile(r"VmRSS:\s+(\d+) kB")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Daemon]:
    """A daemon in a process of its own, on the event loop that daemons have."""
    data_dir = tmp_path_factory.mktemp("floods") / "data"
    daemon = Daemon(await spawn(data_dir), data_dir)
    await daemon.ready()
    yield daemon
    await daemon.stop()


def resident(daemon: Daemon) -> int:
    """The memory that it takes, in bytes."""
    found = _RESIDENT.search(Path(f"/proc/{daemon.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def flood(port: int, start: bytes, block: bytes, most: int) -> int:
    """Send `start` and then `block` again and again until the other side ends it, or takes no more; how many bytes."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    try:
        writer.write(start)
        while sent < most:
            writer.write(block)
            async with asyncio.timeout(1):
                await writer.drain()
            sent += len(block)
    except (ConnectionError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return sent


async def serves(port: int) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    async with asyncio.timeout(10):
        answer = await read_answer(reader)
    writer.close()
    return answer is not None and answer.status == 200


@contextlib.contextmanager
def few_files() -> Iterator[None]:
    """What is started meanwhile may open few files, unless it asks for more."""
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))


async def test_one_connection_too_many_is_told_so_from_a_shell_too(tmp_path: Path) -> None:
    """A shell allows for few open files: without more, connections took the place of the node's own."""
    with few_files():
        daemon = Daemon(await spawn(tmp_path / "data"), tmp_path / "data")
    await daemon.ready()
    async with AsyncExitStack() as ending:
        ending.push_async_callback(daemon.stop)
        for _ in range(Limits().connections):
            _, writer = await asyncio.open_connection("127.0.0.1", daemon.http_port)
            ending.callback(writer.close)
            writer.write(GET[:-1])
        reader, writer = await asyncio.open_connection("127.0.0.1", daemon.http_port)
        ending.callback(writer.close)
        writer.write(GET)
        async with asyncio.timeout(20):
            answer = await read_answer(reader)
    assert answer is not None
    assert (answer.status, answer.problem) == (503, "connections-exhausted")


async def test_nobody_is_kept_out_by_connections_that_say_nothing(tmp_path: Path) -> None:
    """Neither for as long as they may rest, nor, over TLS, by any number that does not shake hands."""
    authority = Authority(tmp_path / "pki")
    certificate, key = map(str, authority.server())
    flags = ("--max-connections=20", f"--tls-cert={certificate}", f"--tls-key={key}")
    daemon = Daemon(await spawn(tmp_path / "data", *flags), tmp_path / "data")
    await daemon.ready()
    async with AsyncExitStack() as ending, asyncio.timeout(30):
        ending.push_async_callback(daemon.stop)
        held = []
        for _ in range(60):
            held.append(await asyncio.open_connection("127.0.0.1", daemon.http_port))
            ending.callback(held[-1][1].close)
        for reader, _ in held[40:]:
            assert await reader.read() == b""
        trust, status = make_context(authority.ca), None
        while status != 200:
            with contextlib.suppress(ConnectionError):
                reader, writer = await asyncio.open_connection("127.0.0.1", daemon.http_port, ssl=trust)
                writer.write(GET)
                answer = await read_answer(reader)
                status = answer and answer.status
                writer.transport.abort()


UNREADABLE = {
    "a header without end": b"GET /livez HTTP/1.1\r\nHost: h\r\nX: ",
    "a target without end": b"GET /",
    "no request": b"",
    "after an upgrade": raw("GET", "/livez", UPGRADE),
    "after a tunnel": b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a chunk's size without end": raw("POST", "/v1/bus", [*HOST, ("Transfer-Encoding", "chunked")]),
}


@pytest.mark.parametrize("start", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_nobody_can_read_is_not_kept(daemon: Daemon, start: bytes) -> None:
    """Errors once held what they were raised for: sixteen megabytes a connection, for hundreds of connections."""
    await flood(daemon.http_port, start, b"x" * 65536, 16 * MIB)
    before = resident(daemon)
    for _ in range(20):
        await flood(daemon.http_port, start, b"x" * 65536, 16 * MIB)
    assert resident(daemon) - before < 50 * MIB
    assert await serves(daemon.http_port)


ENDLESS = {
    "requests": (b"", GET * 2000),
    "requests after an upgrade": (raw("GET", "/livez", UPGRADE) * 50, GET * 2000),
    "empty lines": (b"", b"\r\n" * 32768),
    "a body": (raw("POST", "/v1/bus", [*HOST, ("Content-Length", "9" * 15)]), b"x" * 65536),
    "a body that nobody asked for": (raw("GET", "/livez", [*HOST, ("Content-Length", "9" * 15)]), b"x" * 65536),
    "chunks": (raw("POST", "/v1/bus", [*HOST, ("Transfer-Encoding", "chunked")]), b"1\r\nx\r\n" * 10000),
    "a chunk's extension": (raw("POST", "/v1/bus", [*HOST, ("Transfer-Encoding", "chunked")]) + b"1;", b"x" * 65536),
    "trailers": (raw("POST", "/v1/bus", [*HOST, ("Transfer-Encoding", "chunked")]) + b"0\r\n", b"X: y\r\n" * 10000),
}


@pytest.mark.parametrize(("start", "block"), ENDLESS.values(), ids=ENDLESS)
async def test_what_never_ends_is_not_kept_either(daemon: Daemon, start: bytes, block: bytes) -> None:
    before = resident(daemon)
    await flood(daemon.http_port, start, block, 200 * MIB)
    assert await serves(daemon.http_port)
    assert resident(daemon) - before < 50 * MIB


@contextlib.asynccontextmanager
async def impatient(data_dir: Path) -> AsyncIterator[int]:
    """A node that waits for half a second only; its port."""
    async with Node(replace(options(data_dir), limits=Limits(idle_seconds=0.5))) as node:
        yield node.http_port


async def connections(port: int) -> int:
    """How many the node has beside the one that asks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(raw("GET", "/metrics", [*HOST, ("Connection", "close")]))
    shown = re.search(rb"^unibus_http_connections (\d+)", await reader.read(), re.MULTILINE)
    writer.close()
    assert shown is not None
    return int(shown[1]) - 1


@pytest.mark.parametrize("asked", [40, 4000])
async def test_who_reads_no_answer_loses_the_connection(tmp_path: Path, asked: int) -> None:
    """It is not idle, since its answers are on their way: they would be for ever."""
    async with impatient(tmp_path / "data") as port:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            deaf.setblocking(False)
            assert deaf.send(raw("GET", "/openapi.json", HOST) * asked) > 0
            assert await connections(port) == 1
            async with asyncio.timeout(20):
                while await connections(port):  # noqa: ASYNC110 - another side's count is no event
                    await asyncio.sleep(0.1)


@pytest.mark.parametrize("drop", [b"\r\n", b"X: y\r\n", b"y"], ids=["lines", "headers", "letters"])
async def test_who_sends_a_request_drop_by_drop_loses_the_connection(tmp_path: Path, drop: bytes) -> None:
    async with impatient(tmp_path / "data") as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if drop != b"\r\n":
            writer.write(b"GET /livez HTTP/1.1\r\nHost: h\r\n" + (b"X: " if drop == b"y" else b""))
        async with asyncio.timeout(20):
            ended = asyncio.ensure_future(reader.read())
            while not ended.done():
                writer.write(drop)
                await asyncio.wait([ended], timeout=0.1)
        with contextlib.suppress(ConnectionError):
            assert await ended == b""
        writer.close()
