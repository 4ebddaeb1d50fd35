"""Which handler a request goes to, however its address is written, and what it is told of where it went."""

import asyncio

import pytest
from aiohttp import web
from tests.http.serving import raw, read_answer, serving

from unibus.errors import RateLimited, UnibusError

HOST = [("Host", "h")]


def naming(name: str) -> web.RouteDef:
    """A route whose handler answers with its name, and with what the address has in the place of a variable."""

    async def tell(request: web.Request) -> web.Response:
        resource = request.match_info.route.resource
        assert resource is not None
        return web.json_response({"name": name, "at": resource.canonical, "given": dict(request.match_info)})

    method, _, path = name.partition(" ")
    return web.RouteDef(method, path, tell, {"allow_head": True} if method == "GET" else {})


ROUTES = [naming(name) for name in ("GET /a/b", "POST /a/b", "GET /a/{x}", "POST /a", "GET /a/{x}/b")]


@pytest.mark.parametrize(
    ("asked", "name", "given"),
    [
        ("GET /a/b", "GET /a/b", {}),
        ("GET /a/b?x=1", "GET /a/b", {}),
        ("POST /a/b", "POST /a/b", {}),
        ("GET /a/%62", "GET /a/b", {}),
        ("GET http://elsewhere/a/b", "GET /a/b", {}),
        ("GET /a/c", "GET /a/{x}", {"x": "c"}),
        ("GET /a/b/b", "GET /a/{x}/b", {"x": "b"}),
        ("GET /a/b%2Fb", "GET /a/{x}", {"x": "b/b"}),
        ("POST /a", "POST /a", {}),
    ],
)
async def test_a_request_finds_its_handler(asked: str, name: str, given: dict[str, str]) -> None:
    method, _, target = asked.partition(" ")
    async with serving(ROUTES) as server, asyncio.timeout(10):
        answers = [await server.send(raw(method, target, HOST)) for _ in range(2)]
    expected = {"name": name, "at": name.partition(" ")[2], "given": given}
    assert [answer and (answer.status, answer.members) for answer in answers] == [(200, expected)] * 2


@pytest.mark.parametrize(
    ("asked", "status", "allowed"),
    [
        ("PUT /a/b", 405, "GET,HEAD,POST"),
        ("GET /a", 405, "POST"),
        ("GET /a/b/", 404, None),
        ("GET /A/b", 404, None),
        ("GET //a/b", 404, None),
        ("GET /", 404, None),
        ("get /a/b", 400, None),
    ],
)
async def test_a_request_that_has_none_is_refused(asked: str, status: int, allowed: str | None) -> None:
    method, _, target = asked.partition(" ")
    async with serving(ROUTES) as server, asyncio.timeout(10):
        answer = await server.send(raw(method, target, HOST))
    assert answer is not None
    assert (answer.status, answer.headers.get("allow")) == (status, allowed)


class Door:
    """Lets one request in; the statuses of all that came."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    def begins(self, _request: web.Request) -> None:
        """See `Watcher.begins`."""
        if self.statuses:
            raise RateLimited("once is enough", retry_after=1.0)

    def ends(self, _request: web.Request, status: int, _error: UnibusError | None, _seconds: float) -> None:
        """See `Watcher.ends`."""
        self.statuses.append(status)


@pytest.mark.parametrize(("expected", "status"), [("a miracle", 417), ("100-continue", 200)])
async def test_who_expects_something_is_counted_and_refused_like_all_others(expected: str, status: int) -> None:
    door = Door()
    asked = raw("GET", "/a/b", [*HOST, ("Expect", expected)])
    async with serving(ROUTES, watchers=[door]) as server, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(asked)
        if status == 200:
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        first = await read_answer(reader)
        writer.close()
        second = await server.send(asked)  # which is told to send nothing more
    assert first is not None
    assert second is not None
    assert [first.status, second.status] == door.statuses == [status, 429]
