"""What a NATS client takes from a peer that is no nats-server, or that hands on what anybody wrote."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from itertools import repeat

import pytest
from nats.aio.msg import Msg
from nats.errors import Error

from unibus.crypto.nkeys import encode_seed
from unibus.natspy import LARGEST_MESSAGE, LONGEST_LINE, Client

INFO = b'INFO {"server_id":"N","version":"2.15.1","headers":true,"max_payload":1048576}\r\n'
SEED = encode_seed("U", bytes(32))
LAST = b"MSG a 1 4\r\nlast\r\n"
MIB = bytes(2**20)


class Peer:
    """Says `parts` to whoever has subscribed; `said` is how many bytes of them were taken."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = parts
        self.said = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(INFO)
            while not (await reader.readline()).startswith(b"PING"):
                pass
            writer.write(b"PONG\r\n")
            while not (await reader.readline()).startswith(b"SUB"):
                pass
            for part in self._parts:
                writer.write(part)
                await writer.drain()
                self.said += len(part)
            while await reader.read(4096):
                pass
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(parts: Iterable[bytes]) -> AsyncIterator[tuple[asyncio.Queue[Msg | None], Peer, list[Exception]]]:
    """Subscribed at a peer that says `parts`: what is heard, None once the connection is at its end, and complaints."""
    peer, client = Peer(parts), Client()
    heard: asyncio.Queue[Msg | None] = asyncio.Queue()
    complaints: list[Exception] = []

    async def hear(msg: Msg) -> None:
        heard.put_nowait(msg)

    async def ended() -> None:
        heard.put_nowait(None)

    async def complain(error: Exception) -> None:
        complaints.append(error)

    async with asyncio.timeout(20), await asyncio.start_server(peer.serve, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await client.connect(url, allow_reconnect=False, closed_cb=ended, error_cb=complain, max_reconnect_attempts=1)
        try:
            await client.subscribe("a", cb=hear)
            yield heard, peer, complaints
        finally:
            await client.close()


def cut(whole: bytes, size: int) -> Iterator[bytes]:
    return (whole[at : at + size] for at in range(0, len(whole), size))


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
async def test_what_comes_in_pieces_is_put_together(size: int) -> None:
    said = [
        *(b"PING\r\n", b"+OK\r\n", b"PONG\r\n", INFO, b"-ERR 'Permissions Violation'\r\n"),
        *(b"MSG other 2 2\r\n\r\n\r\n", b"MSG a 1 0\r\n\r\n", b"MSG a 1 back 9\r\nMSG a 1\r\n\r\n"),
        *(b"HMSG a 1 back 18 19\r\nNATS/1.0\r\nX: y\r\n\r\nz\r\n", LAST),
    ]
    async with listening(cut(b"".join(said), size)) as (heard, _, complaints):
        got = [await heard.get() for _ in range(4)]
    assert [(msg.reply, msg.data, msg.headers) for msg in got if msg] == [
        ("", b"", None),
        ("back", b"MSG a 1\r\n", None),
        ("back", b"z", {"X": "y"}),
        ("", b"last", None),
    ]
    assert [str(error) for error in complaints] == ["nats: permissions violation"]


@pytest.mark.parametrize(
    ("odd", "comes"),
    [
        (b"MSG a 1 \xff\xfe 1\r\nx\r\n", False),
        (b"MSG a 1 a\x0bb 1\r\nx\r\n", True),
        (b"MSG a 1 5\x0c7 1\r\nx\r\n", True),
        (b"HMSG a 1 16 17\r\nNATS/1.0 \xff\xff\xff\r\n\r\nx\r\n", True),
        (b"HMSG a 1 18 19\r\nNATS/1.0 100 \xff\r\n\r\nx\r\n", True),
        (b"HMSG a 1 2 3\r\nNAx\r\n", True),
        (b"HMSG a 1 8 9\r\nNATS/1.0x\r\n", True),
    ],
)
async def test_what_cannot_be_read_costs_nothing_else(odd: bytes, comes: bool) -> None:
    async with listening([odd, LAST]) as (heard, _, _):
        if comes:
            msg = await heard.get()
            assert msg is not None
            assert msg.data == b"x"
        msg = await heard.get()
        assert msg is not None
        assert msg.data == b"last"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"msg a 1 1\r\nx\r\n",
        b"MSG a 1\r\n",
        b"MSG a 1 b c 1\r\nx\r\n",
        b"MSG a 1 -1\r\n",
        b"MSG a x 1\r\nx\r\n",
        b"MSG a 1 " + b"9" * 5000 + b"\r\n",
        b"HMSG a 1 5 4\r\n",
        b"INFO {\r\n",
        b"INFO []\r\n",
        b'INFO {"connect_urls":7}\r\n',
        b"INFO " + b"[" * 100_000 + b"\r\n",
    ],
    ids=lambda said: str(said[:30]),
)
async def test_what_no_nats_server_says_ends_the_connection(said: bytes) -> None:
    async with listening([said, LAST]) as (heard, _, _):
        assert await heard.get() is None


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"INFO " + bytes(200_000),
        b"INFO " + b"[" * 20_000 + b"\r\n",
        b"INFO []\r\n",
        b"INFO 7\r\n",
        b"INFO{}\r\n",
        b'INFO {"connect_urls":7}\r\n',
        b'INFO {"connect_urls":["[::1"]}\r\n',
        b'INFO {"nonce":7,"auth_required":true}\r\n',
        b"INFO {}\r\n-ERR \xff\r\n",
        b"INFO {}\r\n" + bytes(200_000),
    ],
    ids=lambda said: str(said[:30]),
)
async def test_a_greeting_that_is_none_is_an_error_of_the_bus(greeting: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                pass
        writer.close()

    client = Client()
    async with asyncio.timeout(20), await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(Error):
            await client.connect(
                url, nkeys_seed_str=SEED, allow_reconnect=False, max_reconnect_attempts=1, reconnect_time_wait=0
            )
        await client.close()


@pytest.mark.parametrize("begin", [b"", b"MSG a 1 %d\r\n" % (LARGEST_MESSAGE + 1), b"HMSG a 1 9 99999999999\r\n"])
async def test_nothing_without_end_is_kept(begin: bytes) -> None:
    async with listening([begin, *repeat(MIB, 2 * LARGEST_MESSAGE // len(MIB))]) as (heard, peer, _):
        assert await heard.get() is None
    assert peer.said < 16 * 2**20, "what is on its way in buffers, and not all of it"
    assert LONGEST_LINE < 2**20
