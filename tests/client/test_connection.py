"""The client's own short way to and from nats-server, beside nats-py's, with a real nats-server in between."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.metadata import version
from inspect import signature
from pathlib import Path

import pytest
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, MaxPayloadError

from tests.builders import identity
from tests.support.nats_server import NatsServer, nats_server
from unibus.client.connection import Client

HEADERS = b"NATS/1.0\r\nNats-Msg-Id: one\r\n\r\n"


@dataclass
class Ada:
    """Her connection, what went wrong on it, and whether it has ended."""

    client: Client
    errors: list[Exception]
    ended: asyncio.Event


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    async with nats_server(tmp_path / "nats", "max_payload: 65536") as server:
        yield server


@pytest.fixture
async def ada(server: NatsServer) -> AsyncIterator[Ada]:
    made = Ada(Client(identity("ada").signing), [], asyncio.Event())

    async def failed(error: Exception) -> None:
        made.errors.append(error)

    async def ended() -> None:
        made.ended.set()

    await made.client.connect(
        server.url, allow_reconnect=False, max_reconnect_attempts=1, error_cb=failed, closed_cb=ended
    )
    yield made
    await made.client.end()


def parameters(name: str) -> list[str]:
    """What a method of nats-py's client takes; nothing if it is gone."""
    return list(signature(getattr(Nats, name, lambda: None)).parameters)


async def test_nats_py_has_the_private_parts_that_are_used(ada: Ada) -> None:
    """A release of nats-py may change these without a word, and some of them would be missed in silence."""
    found = await ada.client.subscribe("a")
    used = {
        "Client._process_msg": parameters("_process_msg") == ["self", "sid", "subject", "reply", "data", "headers"],
        "Client._process_headers": parameters("_process_headers") == ["self", "headers"],
        "Client._build_message": parameters("_build_message") == ["self", "sid", "subject", "reply", "data", "headers"],
        "Client._subs": found in getattr(ada.client, "_subs", {}).values(),
        "Client._error_cb": callable(getattr(ada.client, "_error_cb", None)),
        "Client._public_nkey": hasattr(Nats(), "_public_nkey"),
        "Client._pending": getattr(Nats(), "_pending", None) == [],
        "Client._pending_data_size": getattr(Nats(), "_pending_data_size", None) == 0,
        "Client._transport": callable(getattr(getattr(ada.client, "_transport", None), "writelines", None)),
        "Client._transport._io_writer": isinstance(
            getattr(getattr(ada.client, "_transport", None), "_io_writer", None), asyncio.StreamWriter
        ),
        "Subscription._cb": hasattr(found, "_cb"),
    }
    changed = [name for name, there in used.items() if not there]
    assert not changed, f"nats-py {version('nats-py')} changed {changed}, which client/connection.py builds on: mend it"


async def test_what_is_posted_comes_whole_and_in_order(ada: Ada) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    await ada.client.hear("a.*", heard.put_nowait)
    bodies = [b"", b"\r\n", b"PING\r\n", b"x" * 65_000, b"MSG a.b 1 3\r\nabc\r\n"]
    for number, body in enumerate(bodies):
        ada.client.post(f"a.{number}", "back", HEADERS, body)
    async with asyncio.timeout(10):
        got = [await heard.get() for _ in bodies]
    assert [(msg.subject, msg.reply, msg.data) for msg in got] == [
        (f"a.{number}", "back", body) for number, body in enumerate(bodies)
    ]


async def test_what_was_published_before_goes_first(ada: Ada) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    await ada.client.hear("a", heard.put_nowait)  # is on its way itself
    for number in range(50):
        await ada.client.publish("a", b"published %d" % number)
        ada.client.post("a", "back", HEADERS, b"posted %d" % number)
    async with asyncio.timeout(10):
        got = [(await heard.get()).data for _ in range(100)]
    assert got == [word % number for number in range(50) for word in (b"published %d", b"posted %d")]


async def test_the_bus_sees_the_headers_and_a_taker_sees_a_status(ada: Ada) -> None:
    seen: asyncio.Queue[Msg] = asyncio.Queue()
    heard: asyncio.Queue[Msg] = asyncio.Queue()

    async def note(msg: Msg) -> None:
        seen.put_nowait(msg)

    await ada.client.subscribe("a", cb=note)
    await ada.client.hear("a", heard.put_nowait)
    await ada.client.hear("back", heard.put_nowait)
    ada.client.post("a", "back", HEADERS, b"body")
    ada.client.post("nobody.listens", "back", HEADERS, b"body")
    async with asyncio.timeout(10):
        assert (await seen.get()).headers == {"Nats-Msg-Id": "one"}
        assert (await heard.get()).headers is None
        status = await heard.get()
    assert status.headers is not None
    assert (status.subject, status.headers["Status"]) == ("back", "503")


async def test_what_is_heard_takes_no_way_through_a_queue(ada: Ada) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await ada.client.hear("a", heard.put_nowait)
    ada.client.post("a", "back", HEADERS, b"body")
    async with asyncio.timeout(10):
        await heard.get()
    assert subscription.delivered == 0  # of what nats-py would have put there for a task of its own


async def test_a_taker_that_fails_does_not_end_the_reading(ada: Ada) -> None:
    heard: asyncio.Queue[Msg] = asyncio.Queue()

    def take(msg: Msg) -> None:
        if msg.data == b"bad":
            raise ValueError(msg.data)
        heard.put_nowait(msg)

    await ada.client.hear("a", take)
    ada.client.post("a", "back", HEADERS, b"bad")
    ada.client.post("a", "back", HEADERS, b"good")
    async with asyncio.timeout(10):
        assert (await heard.get()).data == b"good"
    assert [str(error) for error in ada.errors] == ["b'bad'"]


async def test_what_the_bus_would_cut_the_connection_for_is_not_sent(ada: Ada) -> None:
    with pytest.raises(MaxPayloadError):
        ada.client.post("a", "back", HEADERS, b"x" * 65_537)
    await ada.client.flush()


async def test_nothing_is_posted_after_the_end(server: NatsServer, ada: Ada) -> None:
    await server.kill()
    async with asyncio.timeout(10):
        await ada.ended.wait()
    with pytest.raises(ConnectionClosedError):
        ada.client.post("a", "back", HEADERS, b"lost")
