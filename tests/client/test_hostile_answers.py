"""A real client against HTTP that is broken, slow, endless or elsewhere: a named error by the deadline, never more."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from itertools import count

import pytest
from aiohttp import web

from tests.builders import identity
from tests.client.hostile import Server, always, serving
from tests.client.world import World
from unibus import connect
from unibus.client.api import ControlApi
from unibus.client.exchange import ANSWER_LIMIT
from unibus.client.nodes import parse_url
from unibus.errors import (
    BusUnavailable,
    Forbidden,
    InvalidInput,
    StorageUnavailable,
    UnibusError,
    Unreachable,
    Untrusted,
)

BOB = identity("bob")
RECORDS = "/v1/directory/records"
DEADLINE = 0.6  # seconds


@pytest.fixture
async def api(server: Server) -> AsyncIterator[ControlApi]:
    """Bob's calls to the server."""
    api = ControlApi(server.url, BOB.signing, time.time, DEADLINE)
    api.bus = server.world.bus
    await api.open()
    yield api
    await api.close()


async def fails(api: ControlApi) -> UnibusError:
    async with asyncio.timeout(10 * DEADLINE):
        with pytest.raises(UnibusError) as caught:
            await api.records("directory", 0)
    return caught.value


def problem(status: int, code: str, detail: str = "as it is") -> web.Response:
    body = f'{{"type":"urn:unibus:problem:{code}","detail":"{detail}"}}'
    return web.Response(status=status, body=body.encode(), content_type="application/problem+json")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>hello</html>",
        b"{",
        b"null",
        b"\xff\xfe",
        b'{"records":[]}',
        b'{"records":[],"head":{"sequence":-1,"hash":"' + b"A" * 43 + b'"}}',
        b'{"records":[],"head":{"sequence":0,"hash":"short"}}',
        b'{"records":[],"head":{"sequence":"0","hash":"' + b"A" * 43 + b'"}}',
        b'{"records":[],"head":{"sequence":0,"hash":"' + b"A" * 43 + b'"},"admin":true}',
        b'{"records":[7],"head":{"sequence":0,"hash":"' + b"A" * 43 + b'"}}',
        b"[" * 100_000,
    ],
    ids=lambda body: str(body[:60]),
)
async def test_what_is_no_answer_is_not_trusted(server: Server, api: ControlApi, body: bytes) -> None:
    server.answers[RECORDS] = always(200, body)
    error = await fails(api)
    assert type(error) is Untrusted
    assert len(server.seen) == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_answer_is_not_unpacked(server: Server, api: ControlApi, encoding: str) -> None:
    async def answer(_request: web.Request) -> web.Response:
        response = web.Response(body=b"0" * 1_000_000)
        response.enable_compression(web.ContentCoding(encoding))
        return response

    server.answers[RECORDS] = answer
    assert type(await fails(api)) is Untrusted


async def test_an_endless_answer_is_cut_off(server: Server, api: ControlApi) -> None:
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 2**20)
                sent += 2**20
        return response

    server.answers[RECORDS] = answer
    api = ControlApi(server.url, BOB.signing, time.time, 10.0)
    await api.open()
    try:
        error = await fails(api)
    finally:
        await api.close()
    assert type(error) is Untrusted
    assert "more than" in error.message
    assert sent < 2 * ANSWER_LIMIT


async def test_an_answer_that_comes_in_pieces_is_read_whole(server: Server, api: ControlApi) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        whole = server.records("directory", request).body
        assert isinstance(whole, bytes)
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(whole), 997):
            await response.write(whole[start : start + 997])
            await asyncio.sleep(0)
        return response

    server.answers[RECORDS] = answer
    assert len((await api.records("directory", 0)).records) == len(server.world.logs["directory"])


async def test_an_answer_that_never_ends_is_given_up_at_the_deadline(server: Server, api: ControlApi) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"records":')
        await asyncio.sleep(60)
        return response

    server.answers[RECORDS] = answer
    began = time.monotonic()
    assert type(await fails(api)) is Unreachable
    assert time.monotonic() - began < 3 * DEADLINE


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(server: Server, api: ControlApi, status: int) -> None:
    async with serving(World(seed="elsewhere")) as elsewhere:
        server.answers[RECORDS] = always(status, Location=elsewhere.url + RECORDS)
        error = await fails(api)
        assert type(error) is UnibusError
        assert str(status) in error.message
        assert elsewhere.seen == []


async def test_a_mistake_of_the_server_is_told_at_once(server: Server, api: ControlApi) -> None:
    server.answers[RECORDS] = always(500, b"Traceback (most recent call last)")
    error = await fails(api)
    assert type(error) is UnibusError
    assert "500" in error.message
    assert len(server.seen) == 1


async def test_a_refusal_is_told_at_once_as_itself(server: Server, api: ControlApi) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return problem(403, "forbidden", "only an admin may do this")

    server.answers[RECORDS] = answer
    error = await fails(api)
    assert (type(error), error.message) == (Forbidden, "only an admin may do this")
    assert len(server.seen) == 1


@pytest.mark.parametrize("code", ["log-forked", "key-custody", "start-refused"])
async def test_a_server_cannot_put_the_clients_own_words_into_its_mouth(
    server: Server, api: ControlApi, code: str
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return problem(500, code)

    server.answers[RECORDS] = answer
    assert type(await fails(api)) is UnibusError


async def test_a_node_that_is_not_ready_is_asked_again(server: Server, api: ControlApi) -> None:
    attempts = count(1)

    async def answer(request: web.Request) -> web.Response:
        return problem(503, "bus-unavailable") if next(attempts) < 3 else server.records("directory", request)

    server.answers[RECORDS] = answer
    assert (await api.records("directory", 0)).head.sequence == len(server.world.logs["directory"])
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("code", "kind"), [("storage-unavailable", StorageUnavailable), ("bus-unavailable", BusUnavailable)]
)
async def test_a_node_that_does_not_get_ready_is_named_at_the_deadline(
    server: Server, api: ControlApi, code: str, kind: type[UnibusError]
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return problem(503, code)

    server.answers[RECORDS] = answer
    began = time.monotonic()
    assert type(await fails(api)) is kind
    # It gives up when the next try would come after the deadline, which may be a good while before it.
    assert time.monotonic() - began < 3 * DEADLINE
    assert 2 <= len(server.seen) < 20


async def test_every_attempt_is_signed_anew(server: Server, api: ControlApi) -> None:
    signed: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        signed.append(request.headers["Signature-Input"])
        return problem(503, "bus-unavailable")

    server.answers[RECORDS] = answer
    await fails(api)
    assert len(signed) == len(set(signed)) >= 2


async def test_nobody_there_is_named_at_the_deadline() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unreachable, match="cannot reach"):
            async with asyncio.timeout(10), connect(url, BOB, deadline=0.3):
                pytest.fail("connected to nobody")


async def test_after_the_end_nothing_is_asked_any_more(server: Server) -> None:
    async with connect(server.url, BOB) as bus:
        pass
    asked = len(server.seen)
    began = time.monotonic()
    with pytest.raises(Unreachable, match="closed"):
        await bus.users()
    assert time.monotonic() - began < 1
    assert len(server.seen) == asked


async def test_a_list_of_rooms_that_goes_round_in_circles_ends(server: Server) -> None:
    room = next(iter(server.world.rooms))
    server.answers["/v1/rooms"] = always(200, f'{{"rooms":["{room}"],"next":"{room}"}}'.encode())
    async with asyncio.timeout(5), connect(server.url, BOB) as bus:
        with pytest.raises(Untrusted, match="circles"):
            await bus.rooms()


@pytest.mark.parametrize("room", ["", "../directory", "a" * 25, "A" * 26, "a" * 26 + "?"])
async def test_a_room_id_that_is_none_is_asked_for_nowhere(server: Server, room: str) -> None:
    server.rooms = [room]
    async with connect(server.url, BOB) as bus:
        asked = len(server.seen)
        with pytest.raises(InvalidInput, match="room id"):
            await bus.rooms()
    assert server.seen[asked:] == ["GET /v1/rooms"]


@pytest.mark.parametrize(
    "url", ["", "localhost:8470", "ftp://a", "http://", "http://u:p@a", "http://a/?x=1", "http://a/#x", "http://[::1"]
)
def test_an_address_of_another_form_is_refused_by_what_one_looks_like(url: str) -> None:
    with pytest.raises(InvalidInput):
        parse_url(url)
