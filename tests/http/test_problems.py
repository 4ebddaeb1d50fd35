"""Every failure answers with a problem and gives nothing away, down to bytes that are no request at all."""

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientConnectionResetError, web
from tests.http.serving import Server, raw, read_answer, serving

from unibus.errors import (
    BY_CODE,
    AnswerTimeout,
    ConnectionsExhausted,
    ListTooLong,
    NotAUser,
    SignatureMissing,
    StorageUnavailable,
    UnibusError,
)
from unibus.http.api import read_model
from unibus.http.body import read_body
from unibus.http.limits import Limits
from unibus.http.problems import FAILED_AT_ONCE
from unibus.http.sending import send_block
from unibus.model.problem import from_problem
from unibus.model.wire import AppendRequest

SECRET = "SUAM-this-must-not-get-out"  # noqa: S105 - a marker to look for in what the server lets out
HOST = [("Host", "h")]
LIMITS = Limits()


def raising(error: BaseException) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(_request: web.Request) -> web.StreamResponse:
        raise error

    return handler


@pytest.mark.parametrize("kind", BY_CODE.values(), ids=BY_CODE)
async def test_an_error_on_purpose_is_told_as_it_is(kind: type[UnibusError]) -> None:
    async with serving([web.get("/", raising(kind("what is wrong", sequence=7)))]) as server:
        answer = await server.send(raw("GET", "/", HOST))
    assert answer is not None
    assert answer.status == kind.status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.members == {
        "type": f"urn:unibus:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": "what is wrong",
        "sequence": 7,
    }
    assert ("www-authenticate" in answer.headers) == (kind.status == 401)
    # Anybody can bring about as many connections too many as they like: those are counted, not logged.
    assert bool(server.log) == (kind.status >= 500 and kind is not ConnectionsExhausted)


@pytest.mark.parametrize(
    "error",
    [RuntimeError(SECRET), TimeoutError(SECRET), ConnectionError(SECRET), KeyError(SECRET), OSError(28, SECRET)],
)
async def test_an_unexpected_error_gives_only_its_number(error: Exception) -> None:
    async with serving([web.get("/", raising(error))], incident=lambda: "f00d") as server:
        answer = await server.send(raw("GET", "/", [*HOST, ("Accept", "text/html")]))
        assert answer is not None
        assert (answer.status, answer.problem, answer.members["incident"]) == (500, "internal", "f00d")
        assert SECRET not in str(answer)
        assert type(error).__name__ not in str(answer)
        [entry] = server.log
        assert (entry["incident"], entry["log_level"], entry["exc_info"]) == ("f00d", "error", True)
    assert "f00d" in from_problem(500, json.dumps(answer.members).encode()).message


@pytest.mark.parametrize(
    ("data", "status", "problem"),
    [
        (raw("GET", "/nothing", HOST), 404, "not-found"),
        (raw("DELETE", "/", HOST), 405, "blank"),
        (raw("GET", "/", [*HOST, ("Expect", "miracles")]), 417, "blank"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello over TLS\r\n\r\n", 400, "blank"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "blank"),
        (b"SECRET / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "blank"),
        (raw("GET", "/", [*HOST, ("Bad Header", "x")]), 400, "blank"),
        (raw("GET", "/", [*HOST, ("X", "a\x00b")]), 400, "blank"),
        (raw("GET", "/", [*HOST, ("X", "x" * (LIMITS.header + 1))]), 431, "headers-too-large"),
        (raw("GET", "/", [*HOST, ("X" * (LIMITS.header + 1), "x")]), 431, "headers-too-large"),
        (raw("GET", "/", [*HOST, *[("X", "x")] * LIMITS.headers]), 431, "headers-too-large"),
        (raw("GET", "/" + "x" * LIMITS.target, HOST), 414, "target-too-long"),
        (raw("POST", "/body", [*HOST, ("Content-Length", "5")], b"hello"), 200, None),
        (raw("POST", "/body", [*HOST, ("Content-Length", "6")], b"hello!"), 413, "too-large"),
        (raw("POST", "/body", [*HOST, ("Content-Length", "5")], b"hell"), 408, "request-timeout"),
        (raw("POST", "/body", [*HOST, ("Transfer-Encoding", "chunked")], b"x\r\n"), 400, "blank"),
        (raw("POST", "/body", [*HOST, ("Content-Encoding", "zstd")]), 400, "invalid-input"),
    ],
)  # fmt: skip
async def test_what_never_reaches_a_handler_is_a_problem_too(data: bytes, status: int, problem: str | None) -> None:
    async with serving([web.get("/", raising(SignatureMissing())), web.post("/body", short)]) as server:
        answer = await server.send(data)
        assert answer is not None
        assert (answer.status, answer.problem) == (status, problem)
        assert answer.status == 200 or answer.headers["content-type"] == "application/problem+json"
        assert [entry for entry in server.log if "exc_info" in entry] == []
        await still_serves(server)


async def short(request: web.Request) -> web.StreamResponse:
    return web.json_response({"size": len(await read_body(request, 5, seconds=0.2))})


async def still_serves(server: Server) -> None:
    answer = await server.send(raw("GET", "/", HOST))
    assert answer is not None
    assert answer.problem == "signature-missing"


async def test_the_other_methods_are_named() -> None:
    async with serving([web.get("/", raising(SignatureMissing()))]) as server:
        answer = await server.send(raw("PUT", "/", HOST))
    assert answer is not None
    assert answer.headers["allow"] == "GET,HEAD"
    assert answer.members["detail"] == "this address takes GET,HEAD"


async def test_a_redirect_stays_one() -> None:
    async with serving([web.get("/", raising(web.HTTPFound("/elsewhere")))]) as server:
        answer = await server.send(raw("GET", "/", HOST))
    assert answer is not None
    assert (answer.status, answer.headers["location"]) == (302, "/elsewhere")


async def test_an_answer_that_breaks_half_way_does_not_look_whole() -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"hello")
        raise RuntimeError(SECRET)

    async with serving([web.get("/", half)]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(raw("GET", "/", HOST))
        everything = await reader.read()
        writer.close()
    assert everything.endswith(b"\r\n\r\nhello")
    assert [entry["event"] for entry in server.log] == ["request broke"]


@pytest.mark.parametrize(
    ("why", "status", "events"),
    [
        (NotAUser("no longer"), 403, []),
        (ClientConnectionResetError("gone"), 499, []),
        (StorageUnavailable("a disk is broken"), 503, ["request failed"]),
        (OSError(errno.ETIMEDOUT, "a disk takes too long"), 500, ["request broke"]),
        (OSError(errno.ECONNRESET, "a disk elsewhere is gone"), 500, ["request broke"]),
    ],
    ids=["a right that ended", "an asker that is gone", "a store", "a slow disk", "a disk elsewhere"],
)
async def test_an_answer_that_is_cut_off_for_its_asker_is_no_mistake(
    why: Exception, status: int, events: list[str]
) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"hello")
        raise why

    seen: list[object] = []
    async with serving([web.get("/", cut)], watchers=[Noting("it", seen)]) as server, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(raw("GET", "/", HOST))
        assert (await reader.read()).endswith(b"\r\n\r\nhello")
        writer.close()
    assert [entry["event"] for entry in server.log] == events
    assert seen[1:] == [("it", status, why if isinstance(why, UnibusError) else None)]


@pytest.mark.parametrize("begun", [False, True], ids=["before it", "in the middle"])
async def test_who_leaves_an_answer_leaves_nothing_in_the_log(*, begun: bool) -> None:
    came, left = asyncio.Event(), asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        try:
            if begun:
                await response.prepare(request)
            came.set()
            while not begun and request.transport is not None:  # noqa: ASYNC110 - that it goes is no event
                await asyncio.sleep(0)
            await response.prepare(request)
            while True:
                await send_block(response, b"a" * 2**16)
        finally:
            left.set()

    seen: list[object] = []
    async with serving([web.get("/", endless)], watchers=[Noting("it", seen)]) as server, asyncio.timeout(10):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(raw("GET", "/", HOST))
        await came.wait()
        writer.transport.abort()
        await left.wait()
    assert server.log == []
    assert seen == ["it", ("it", 499, None)]


async def test_an_outage_fills_no_log_and_hides_no_other() -> None:
    now = [100.0]
    routes = [web.get("/", raising(StorageUnavailable())), web.get("/late", raising(AnswerTimeout()))]
    async with serving(routes, clock=lambda: now[0]) as server, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)

        async def ask(path: str) -> None:
            writer.write(raw("GET", path, HOST))
            assert await read_answer(reader) is not None

        for _ in range(FAILED_AT_ONCE + 40):
            await ask("/")
        await ask("/late")
        now[0] += 3600
        await ask("/")
        writer.close()
    told = [(entry["path"], entry["left_out"]) for entry in server.log]
    assert told == [("/", 0)] * FAILED_AT_ONCE + [("/late", 0), ("/", 40)]


async def test_cancelling_is_no_error() -> None:
    async with serving([web.get("/", raising(asyncio.CancelledError()))]) as server:
        assert await server.send(raw("GET", "/", HOST)) is None
        assert server.log == []


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: "])
async def test_a_connection_that_never_finishes_its_headers_is_closed(sent: bytes) -> None:
    async with serving([web.get("/", raising(SignatureMissing()))], limits=Limits(idle_seconds=0.1)) as server:
        assert await server.send(sent) is None
        await still_serves(server)


@pytest.mark.parametrize(("keys", "refused"), [(10_000, None), (10_001, ListTooLong)])
def test_a_list_takes_so_many_entries(keys: int, refused: type[UnibusError] | None) -> None:
    letters = "ABCDEFGHIJ"
    sealed = {"U" + "".join(letters[int(digit)] for digit in f"{number:055}"): "AA" for number in range(keys)}
    body = json.dumps({"record": "a.b.c", "sealed": sealed}).encode()
    if refused is None:
        assert len(read_model(AppendRequest, body).sealed) == keys
    else:
        with pytest.raises(refused, match="sealed"):
            read_model(AppendRequest, body)


class Noting:
    """A watcher that notes what it sees in `seen`, and refuses every request if it has a `refusal`."""

    def __init__(self, name: str, seen: list[object], refusal: UnibusError | None = None) -> None:
        self._name, self._seen, self._refusal = name, seen, refusal

    def begins(self, _request: web.Request) -> None:
        self._seen.append(self._name)
        if self._refusal is not None:
            raise self._refusal

    def ends(self, _request: web.Request, status: int, error: UnibusError | None, seconds: float) -> None:
        assert 0 <= seconds < 10
        self._seen.append((self._name, status, error))


REFUSAL = SignatureMissing("no")


@pytest.mark.parametrize(
    ("path", "error", "status", "told"),
    [("/", REFUSAL, 401, REFUSAL), ("/", KeyError(SECRET), 500, None), ("/nowhere", REFUSAL, 404, None)],
    ids=["refused", "broken", "no such address"],
)
async def test_watchers_see_how_every_request_ends(
    path: str, error: Exception, status: int, told: UnibusError | None
) -> None:
    seen: list[object] = []
    watchers = [Noting("outer", seen), Noting("inner", seen)]
    async with serving([web.get("/", raising(error))], watchers=watchers) as server:
        answer = await server.send(raw("GET", path, HOST))
    assert answer is not None
    assert answer.status == status
    assert seen == ["outer", "inner", ("inner", status, told), ("outer", status, told)]


async def test_what_a_watcher_refuses_no_handler_sees_but_all_watchers_do() -> None:
    seen: list[object] = []
    watchers = [Noting("outer", seen), Noting("inner", seen, REFUSAL)]
    async with serving([web.get("/", raising(AssertionError("a handler saw it")))], watchers=watchers) as server:
        answer = await server.send(raw("GET", "/", HOST))
    assert answer is not None
    assert answer.status == 401
    assert seen == ["outer", "inner", ("inner", 401, REFUSAL), ("outer", 401, REFUSAL)]
