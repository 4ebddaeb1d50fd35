"""A client that is told to ask more slowly does, as long as its deadline allows, and falls for no nonsense about it."""

import time
from collections.abc import AsyncIterator
from itertools import count

import pytest
from aiohttp import web

from tests.builders import identity
from tests.client.hostile import Server
from unibus.client.api import ControlApi
from unibus.errors import RateLimited

RECORDS = "/v1/directory/records"
DEADLINE = 3.0  # seconds


@pytest.fixture
async def api(server: Server) -> AsyncIterator[ControlApi]:
    """Bob's calls to the server."""
    api = ControlApi(server.url, identity("bob").signing, time.time, DEADLINE)
    api.bus = server.world.bus
    await api.open()
    yield api
    await api.close()


def told(body: str = "", header: str | None = None) -> web.Response:
    """429 with a `retry_after` in the problem, or a header as from something in between."""
    text = f'{{"type":"urn:unibus:problem:rate-limited","detail":"slowly","retry_after":{body}}}' if body else "slowly!"
    return web.Response(status=429, text=text, headers={"Retry-After": header} if header is not None else {})


@pytest.mark.parametrize("answer", [{"body": "0.5"}, {"header": "1"}], ids=["problem", "header"])
async def test_it_waits_as_long_as_it_is_told_and_asks_again(
    server: Server, api: ControlApi, answer: dict[str, str]
) -> None:
    attempts = count()

    async def once_too_fast(request: web.Request) -> web.StreamResponse:
        return told(**answer) if next(attempts) == 0 else server.records("directory", request)

    server.answers[RECORDS] = once_too_fast
    began = time.monotonic()
    assert (await api.records("directory", 0)).records
    assert next(attempts) == 2
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("answer", [{"body": "3600"}, {"body": "1e308"}, {"header": "999999999"}])
async def test_it_does_not_wait_beyond_its_deadline(server: Server, api: ControlApi, answer: dict[str, str]) -> None:
    async def too_fast(_request: web.Request) -> web.StreamResponse:
        return told(**answer)

    server.answers[RECORDS] = too_fast
    began = time.monotonic()
    with pytest.raises(RateLimited):
        await api.records("directory", 0)
    assert time.monotonic() - began < DEADLINE / 2
    assert server.seen.count(f"GET {RECORDS}") == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"body": "-5"},
        {"body": '"soon"'},
        {"body": "null"},
        {"body": "[1]"},
        {"header": "-1"},
        {"header": "Fri, 31 Dec 1999 23:59:59 GMT"},
        {"header": ""},
        {"header": "1e9"},
    ],
)
async def test_nonsense_is_no_reason_to_wait_long_or_to_fail(
    server: Server, api: ControlApi, answer: dict[str, str]
) -> None:
    attempts = count()

    async def once_too_fast(request: web.Request) -> web.StreamResponse:
        return told(**answer) if next(attempts) == 0 else server.records("directory", request)

    server.answers[RECORDS] = once_too_fast
    assert (await api.records("directory", 0)).records
    assert next(attempts) == 2
