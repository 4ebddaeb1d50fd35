"""The listener: nobody takes all connections, and no answer tells which versions run here."""

import asyncio

import pytest
from aiohttp import web
from tests.http.serving import raw, read_answer, serving

from unibus.http.limits import Limits
from unibus.http.site import UNREADABLE_AT_ONCE, Crowd


class Guest:
    """A connection that can be ended."""

    ended = False

    def force_close(self) -> None:
        """Note that it was."""
        self.ended = True


def enter(crowd: Crowd, address: str | None, times: int) -> list[Guest]:
    """That many connections from one address; those that were let in."""
    connections = [Guest() for _ in range(times)]
    return [connection for connection in connections if crowd.enter(connection, address)]


def test_one_address_has_half_of_all_connections_and_leaves_the_rest() -> None:
    crowd = Crowd(10)
    assert len(enter(crowd, "192.0.2.1", 8)) == 5
    crowd = Crowd(10)
    enter(crowd, "192.0.2.1", 5)
    assert len(enter(crowd, "192.0.2.2", 9)) == 5
    assert enter(crowd, "192.0.2.3", 1) == []


def test_loopback_where_proxies_are_may_have_all() -> None:
    assert len(enter(Crowd(10), None, 12)) == 10


def test_who_leaves_makes_room_for_the_same_address() -> None:
    crowd = Crowd(4)
    first, second = enter(crowd, "192.0.2.1", 2)
    refused = Guest()
    assert not crowd.enter(refused, "192.0.2.1")
    crowd.leave(refused)
    crowd.leave(first)
    crowd.leave(first)  # a connection may be lost twice over
    assert len(enter(crowd, "192.0.2.1", 1)) == 1
    crowd.leave(second)
    assert crowd.size == 1


def test_a_house_for_one_lets_one_in() -> None:
    assert len(enter(Crowd(1), "192.0.2.1", 1)) == 1


def test_who_rests_longest_makes_room() -> None:
    crowd = Crowd(3)
    first, second, third = enter(crowd, None, 3)
    for guest in (first, second, third):
        crowd.rests(guest)
    crowd.works(first)
    crowd.rests(first)  # it was answered once more, and so rests the shortest
    crowd.works(third)
    assert len(enter(crowd, None, 2)) == 2
    assert [guest.ended for guest in (first, second, third)] == [True, True, False]
    assert enter(crowd, None, 1) == []  # of the others none was answered yet
    assert crowd.size == 4


def test_who_has_the_half_makes_room_itself() -> None:
    crowd = Crowd(4)
    (other,) = enter(crowd, "192.0.2.2", 1)
    first, second = enter(crowd, "192.0.2.1", 2)
    for guest in (other, first, second):
        crowd.rests(guest)
    assert len(enter(crowd, "192.0.2.1", 1)) == 1
    assert [guest.ended for guest in (other, first, second)] == [False, True, False]


def test_who_left_rests_no_more() -> None:
    crowd = Crowd(1)
    (gone,) = enter(crowd, None, 1)
    crowd.leave(gone)
    crowd.rests(gone)
    assert len(enter(crowd, None, 2)) == 1
    assert not gone.ended


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
