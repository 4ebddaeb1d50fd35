"""Tags, conditional reads and gzip: the same answer in fewer bytes, and never an old one for a new one."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from tests.builders import identity
from tests.e2e.conftest import options
from tests.http.serving import raw, serving
from tests.support.people import Place

from unibus.client.bus import Bus
from unibus.crypto import httpsig
from unibus.crypto.encoding import b64u
from unibus.daemon.node import Node
from unibus.http.caching import conditional, tag_matches, takes_gzip
from unibus.model.wire import RecordsPage

LARGE, SMALL = b'{"text": "' + b"hello " * 1000 + b'"}', b'{"text": "hello"}'
_nonces = count(int(time.time() * 1000))


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=1.000", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("x-gzipped, br", False),
        ("br;q=1", False),
    ],
)
def test_who_takes_gzip(accepted: str, taken: bool) -> None:
    assert takes_gzip(accepted) is taken


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        ('"abc"', True),
        ('W/"abc"', True),
        ('"abc-gzip"', True),
        ('"x", "abc"', True),
        ("*", True),
        ("", False),
        ("abc", False),
        ('"ab"', False),
        ('"abcd"', False),
    ],
)
def test_whether_somebody_has_it(header: str, matches: bool) -> None:
    assert tag_matches(header, '"abc"') is matches


async def ask(body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """What is answered where `body` is all there is."""

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async with serving([web.get("/", conditional(handler))]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(raw("GET", "/", [("Host", "h"), ("Connection", "close"), *headers.items()]))
        head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    first, *lines = head.decode().split("\r\n")
    headers_sent = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers_sent, rest


async def test_large_answers_are_compressed_for_who_asks() -> None:
    plain, packed = await ask(LARGE), await ask(LARGE, **{"Accept-Encoding": "gzip"})
    assert plain[2] == LARGE
    assert "content-encoding" not in plain[1]
    assert packed[1]["content-encoding"] == "gzip"
    assert gzip.decompress(packed[2]) == LARGE
    assert len(packed[2]) < len(LARGE) / 10
    assert plain[1]["etag"] != packed[1]["etag"]
    assert plain[1]["vary"] == packed[1]["vary"] == "Accept-Encoding"


async def test_small_answers_are_not_compressed() -> None:
    assert (await ask(SMALL, **{"Accept-Encoding": "gzip"}))[2] == SMALL


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_who_has_it_gets_no_body(coding: str) -> None:
    accepting = {"Accept-Encoding": coding}
    tag = (await ask(LARGE, **accepting))[1]["etag"]
    status, headers, body = await ask(LARGE, **accepting, **{"If-None-Match": tag})
    assert (status, headers["etag"], body) == (304, tag, b"")
    assert (await ask(SMALL, **accepting, **{"If-None-Match": tag}))[0] == 200


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with Node(options(tmp_path / "data")) as node:
        yield node


async def read(node: Node, path: str, tag: str = "", by: str = "ada", bus: str | None = None) -> tuple[int, str, Any]:
    """Status, tag and JSON of a signed read."""
    url = f"http://127.0.0.1:{node.http_port}{path}"
    nonce = b64u(next(_nonces).to_bytes(16))
    known = bus or node.books.directory.bus
    assert known is not None
    headers = httpsig.sign(identity(by).signing, "GET", url, b"", bus=known, created=int(time.time()), nonce=nonce)
    if tag:
        headers["If-None-Match"] = tag
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        body = await answer.read()
        return answer.status, answer.headers.get("ETag", ""), json.loads(body) if body else None


async def founded(node: Node, tmp_path: Path) -> Place:
    place = Place(f"http://127.0.0.1:{node.http_port}", tmp_path / "data")
    await place.found("bob")
    return place


async def test_tags_change_with_what_they_name(node: Node, tmp_path: Path) -> None:
    place = await founded(node, tmp_path)
    async with place.enter("ada") as ada:
        room = (await ada.create_room("plans")).id

        async def rename(bus: Bus) -> None:
            await (await bus.room(room)).rename("other plans")

        async def admit(bus: Bus) -> None:
            await bus.admit("carol", identity("carol").card())

        async def another(bus: Bus) -> None:
            await bus.create_room("more")

        for path, change in [
            ("/v1/directory/records", admit),
            (f"/v1/rooms/{room}/records", rename),
            ("/v1/rooms", another),
        ]:
            status, tag, before = await read(node, path)
            assert status == 200
            assert await read(node, path, tag) == (304, tag, None)
            await change(ada)
            status, newer, after = await read(node, path, tag)
            assert (status, newer != tag, after != before) == (200, True, True)


async def test_records_are_answered_in_the_form_of_their_model(node: Node, tmp_path: Path) -> None:
    place = await founded(node, tmp_path)
    async with place.enter("ada") as ada:
        await ada.admit("carol", identity("carol").card())
    for path, shown in (("", 3), ("?after=2", 1), ("?after=3", 0)):
        status, _, page = await read(node, f"/v1/directory/records{path}")
        assert status == 200
        assert RecordsPage.model_validate(page).model_dump() == page
        assert (len(page["records"]), page["head"]["sequence"]) == (shown, 3)


async def test_a_tag_opens_nothing(node: Node, tmp_path: Path) -> None:
    place = await founded(node, tmp_path)
    async with place.enter("ada") as ada:
        room = (await ada.create_room("plans")).id
    for path in ("/v1/directory/records", f"/v1/rooms/{room}/records"):
        tag = (await read(node, path))[1]
        assert (await read(node, path, tag, by="mallory"))[0] == 403
        assert (await read(node, path, tag, bus=b64u(bytes(32))))[0] == 403
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{place.url}{path}", headers={"If-None-Match": tag}) as answer,
        ):
            assert answer.status == 401
    assert (await read(node, f"/v1/rooms/{room}/records", "*", by="bob"))[0] == 404
