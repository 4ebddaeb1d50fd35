"""Limits at work on real connections: how many, how fast, how long; each refusal says so, and passes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from tests.builders import identity
from tests.e2e.conftest import options
from tests.http.serving import Answer, Server, raw, read_answer, serving
from tests.support.people import Place
from tests.support.processes import no_nats_server

from unibus.client.api import ControlApi
from unibus.daemon.node import Node
from unibus.errors import AnswerTimeout, NonceReplayed, NonceUnknown, NotFound, RateLimited, SignatureInvalid
from unibus.http.deadlines import Deadlines
from unibus.http.limiting import Limiter
from unibus.http.limits import Limits
from unibus.http.operations import Asker, Operation
from unibus.http.routing import route
from unibus.model.rates import address_key

GET = raw("GET", "/", [("Host", "h")])


async def hello(request: web.Request) -> web.StreamResponse:
    """Says hello, or refuses as a stranger would be, or takes its time."""
    match request.query.get("how"):
        case "stranger":
            raise SignatureInvalid
        case "copy":
            raise NonceReplayed
        case "late":
            raise NonceUnknown
        case "missing":
            raise NotFound
        case "slowly":
            await asyncio.Event().wait()
    return web.Response(text="hello")


@asynccontextmanager
async def limited(limits: Limits, now: list[float], *, exempt: bool = False) -> AsyncIterator[Server]:
    """A server with the daemon's limits, to which loopback is an address like any other unless `exempt`."""
    limiter = Limiter(limits, lambda: now[0], key=address_key if exempt else lambda peer: peer)
    hellos = route(Operation("GET", "/", hello, Asker.ANYBODY, []), Deadlines(limits.request_seconds))
    async with serving([hellos], limits=limits, watchers=[limiter], charge=limiter.charge) as server:
        yield server


async def ask(server: Server, how: str = "") -> Answer:
    answer = await server.send(raw("GET", f"/?how={how}", [("Host", "h")]))
    assert answer is not None
    return answer


async def test_an_address_has_its_burst_and_then_its_rate() -> None:
    now = [50.0]
    async with limited(Limits(rate_per_address=2), now) as server:
        assert [(await ask(server)).status for _ in range(20)] == [200] * 20
        refused = await ask(server)
        assert (refused.status, refused.problem) == (429, "rate-limited")
        assert refused.headers["retry-after"] == "1"
        assert refused.members["retry_after"] == 0.5
        now[0] += 0.5
        assert [(await ask(server)).status for _ in range(2)] == [200, 429]


@pytest.mark.parametrize(
    ("how", "passed"), [("", 100), ("missing", 100), ("late", 100), ("stranger", 10), ("copy", 10)]
)
async def test_who_proves_nothing_is_counted_ten_times(how: str, passed: int) -> None:
    async with limited(Limits(rate_per_address=10), [0.0]) as server:
        answers = [(await ask(server, how)).status for _ in range(110)]
    assert answers.index(429) == passed
    assert set(answers[passed:]) == {429}


async def test_what_nobody_can_read_counts_as_a_strangers() -> None:
    async with limited(Limits(rate_per_address=10), [0.0]) as server:
        answers = [await server.send(b"what\r\n\r\n") for _ in range(12)]
        assert [answer and answer.status for answer in answers] == [400] * 10 + [429] * 2
        assert len(server.log) == 10
        assert (await ask(server)).status == 429


async def test_loopback_has_no_rate_of_its_own() -> None:
    async with limited(Limits(rate_per_address=1), [0.0], exempt=True) as server:
        assert [(await ask(server, "stranger")).status for _ in range(50)] == [401] * 50


async def test_a_forwarded_address_changes_nothing() -> None:
    async with limited(Limits(rate_per_address=1), [0.0]) as server:
        lies = [
            raw("GET", "/", [("Host", "h"), ("X-Forwarded-For", f"192.0.2.{n}"), ("Forwarded", f"for=192.0.2.{n}")])
            for n in range(20)
        ]
        answers = [await server.send(lie) for lie in lies]
    assert [answer.status for answer in answers if answer] == [200] * 10 + [429] * 10


async def test_what_takes_too_long_is_ended_and_named() -> None:
    async with limited(Limits(request_seconds=0.1), [0.0]) as server:
        answer = await ask(server, "slowly")
        assert (answer.status, answer.problem) == (504, "answer-timeout")
        assert (await ask(server)).status == 200


async def test_each_has_its_own_time_by_one_timer() -> None:
    sleep = Deadlines(0.2).bound(asyncio.sleep)
    first = asyncio.create_task(sleep(60))
    await asyncio.sleep(0.1)
    second = asyncio.create_task(sleep(60))
    with pytest.raises(AnswerTimeout):
        await first
    assert not second.done()
    with pytest.raises(AnswerTimeout):
        await second
    assert (first.cancelling(), second.cancelling()) == (0, 0)
    assert await sleep(0, "in time") == "in time"


async def test_who_is_cancelled_for_another_reason_ends() -> None:
    waiting = asyncio.create_task(Deadlines(60).bound(asyncio.sleep)(60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_one_connection_too_many_is_told_so_and_ends() -> None:
    async with limited(Limits(connections=3), [0.0]) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        for _, writer in held:
            writer.write(GET[:-1])  # all of them are about to ask something
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        refused = await answer_on(reader)
        assert (refused.status, refused.problem) == (503, "connections-exhausted")
        assert await reader.read() == b""
        assert not server.log  # anybody could have any number of lines written
        writer.close()
        # Those that were there first go on, and one that leaves makes room.
        held[0][1].write(GET[-1:])
        assert (await answer_on(held[0][0])).status == 200
        held[0][1].close()
        await held[0][1].wait_closed()
        assert (await ask(server)).status == 200
        for _, writer in held[1:]:
            writer.close()


async def test_connections_that_are_kept_for_later_keep_nobody_out() -> None:
    async with limited(Limits(connections=3), [0.0]) as server:
        held = []
        for _ in range(8):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            held.append((reader, writer))
            writer.write(GET)
            assert (await answer_on(reader)).status == 200
        for reader, writer in held[:5]:
            assert await reader.read() == b""  # the longest rested have ended
            writer.close()
        for reader, writer in held[5:]:
            writer.write(GET)
            assert (await answer_on(reader)).status == 200
            writer.close()


async def test_one_address_with_as_many_connections_as_it_likes_keeps_no_other_out() -> None:
    """Those that were one too many once counted, and so did those that never said anything: for a minute."""
    served = serving([web.get("/", hello)], limits=Limits(connections=8), key=lambda peer: peer)
    async with served as server, asyncio.timeout(20):
        held = []
        for address in ["127.0.0.2"] * 30 + ["127.0.0.3"] * 30:
            held.append(await asyncio.open_connection("127.0.0.1", server.port, local_addr=(address, 0)))
            held[-1][1].write(GET[:-1])
        newcomers = []
        for _ in range(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(GET)
            assert (await answer_on(reader)).status == 200
            newcomers.append((reader, writer))
        for reader, writer in newcomers:
            writer.write(GET)
            assert (await answer_on(reader)).status == 200
        for _, writer in held + newcomers:
            writer.close()


async def test_a_silent_connection_too_many_is_not_kept() -> None:
    async with limited(Limits(connections=1, linger_seconds=0.1), [0.0]) as server:
        _, first = await asyncio.open_connection("127.0.0.1", server.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
        first.close()


async def test_far_too_many_connections_are_just_closed() -> None:
    async with limited(Limits(connections=2), [0.0]) as server:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(4)]
        assert await server.send(GET) is None
        for _, writer in held:
            writer.close()


async def answer_on(reader: asyncio.StreamReader) -> Answer:
    answer = await read_answer(reader)
    assert answer is not None
    return answer


@asynccontextmanager
async def calls(data_dir: Path, limits: Limits) -> AsyncIterator[tuple[ControlApi, Node]]:
    """Ada's calls to a node of her own."""
    async with Node(replace(options(data_dir), limits=limits)) as node:
        place = Place(f"http://127.0.0.1:{node.http_port}", data_dir)
        await place.found()
        api = ControlApi(place.url, identity("ada").signing, time.time)
        bus = node.books.directory.bus
        assert bus is not None
        api.bus = bus
        await api.open()
        try:
            yield api, node
        finally:
            await api.close()
    await no_nats_server(data_dir)


async def statuses(node: Node) -> str:
    """What the node counted, as Prometheus sees it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.http_port)
    writer.write(raw("GET", "/metrics", [("Host", "h"), ("Connection", "close")]))
    text = (await reader.read()).decode()
    writer.close()
    return text


async def test_a_client_that_asks_three_hundred_times_at_once_is_not_slowed(tmp_path: Path) -> None:
    async with calls(tmp_path / "data", Limits()) as (api, node):
        pages = await asyncio.gather(*(api.records("directory", 0) for _ in range(300)))
        assert {page.head.sequence for page in pages} == {1}
        assert 'status="429"' not in await statuses(node)


async def test_a_client_that_asks_too_fast_waits_as_told_and_gets_all(tmp_path: Path) -> None:
    async with calls(tmp_path / "data", Limits(rate_per_user=10)) as (api, node):
        pages = await asyncio.gather(*(api.records("directory", 0) for _ in range(120)))
        assert len(pages) == 120
        assert 'status="429"' in await statuses(node)


async def test_records_have_a_rate_of_their_own(tmp_path: Path) -> None:
    limits = Limits(appends_per_user=2, append_burst=4)
    async with calls(tmp_path / "data", limits) as (api, node), Place(str(api.url), tmp_path).enter("ada") as bus:
        for name in "abcdef":
            await bus.create_room(name)
        assert 'route="/v1/rooms/{room}/records",status="429"' in await statuses(node)
        assert len(await bus.rooms()) == 6  # the client waited as it was told


async def test_the_rate_of_one_user_is_nobody_elses(tmp_path: Path) -> None:
    async with calls(tmp_path / "data", Limits(rate_per_user=1)) as (ada, _):
        place = Place(str(ada.url), tmp_path / "data")
        async with place.enter("ada") as bus:
            await bus.admit("bob", identity("bob").card())
        bob = ControlApi(str(ada.url), identity("bob").signing, time.time, 1.0)
        assert ada.bus is not None
        bob.bus = ada.bus
        await bob.open()
        outcomes = await asyncio.gather(*(bob.records("directory", 0) for _ in range(20)), return_exceptions=True)
        await bob.close()
        assert {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)} == {RateLimited}
        assert (await ada.records("directory", 0)).head.sequence == 2
