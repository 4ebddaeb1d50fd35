"""A real client before several control planes of which some are away, behind, mad or another's: what it asks whom."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web

from tests.builders import identity
from tests.client.hostile import Answer, Server, always, serving
from tests.client.test_downgrade import served
from tests.client.world import World
from tests.support.pki import Authority
from unibus import Bus, connect
from unibus.client.api import ControlApi
from unibus.client.changes import Change
from unibus.client.founding import found_bus
from unibus.client.memory import Memory
from unibus.errors import (
    BootstrapRefused,
    Forbidden,
    LogRolledBack,
    NotFound,
    SignatureStale,
    StorageUnavailable,
    Unreachable,
    Untrusted,
    WrongBus,
)
from unibus.model.records import DIRECTORY
from unibus.model.wire import HeadView

BOB = identity("bob")
RECORDS = "/v1/directory/records"
DEADLINE = 0.8  # seconds


def problem(status: int, code: str, **members: object) -> bytes:
    found = {"type": f"urn:unibus:problem:{code}", "detail": "as it is", "status": status} | members
    return web.json_response(found).body  # type: ignore[return-value]  # bytes, of a response made of text


@pytest.fixture
async def servers(world: World) -> AsyncIterator[list[Server]]:
    """Three nodes that all show the world."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serving(world.split())) for _ in range(3)]


@pytest.fixture
async def bus(servers: list[Server]) -> AsyncIterator[Bus]:
    """Bob's, who knows all three."""
    async with connect(urls(*servers), BOB, deadline=DEADLINE) as bus:
        yield bus


def urls(*servers: Server) -> str:
    return ",".join(server.url for server in servers)


def forget(servers: list[Server]) -> None:
    for server in servers:
        server.seen.clear()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "storage-unavailable"),
        (503, "bus-unavailable"),
        (503, "connections-exhausted"),
        (503, "draining-as-a-newer-version-says-it"),
        (504, "answer-timeout"),
        (500, "internal"),
        (401, "signature-stale"),
        (401, "nonce-replayed"),
        (403, "wrong-bus"),
    ],
)
async def test_what_one_node_cannot_another_does_and_is_asked_from_then_on(
    servers: list[Server], bus: Bus, status: int, code: str
) -> None:
    servers[0].answers[RECORDS] = always(status, problem(status, code))
    forget(servers)
    for _ in range(3):
        await bus.users()
    assert servers[0].seen == [f"GET {RECORDS}"]
    assert servers[1].seen == ["GET /v1/bus", *[f"GET {RECORDS}"] * 3]
    assert servers[2].seen == []


async def test_a_refusal_is_the_answer_and_no_other_node_is_asked(servers: list[Server], bus: Bus) -> None:
    servers[0].answers[RECORDS] = always(403, problem(403, "forbidden"))
    forget(servers)
    with pytest.raises(Forbidden):
        await bus.users()
    assert (len(servers[0].seen), servers[1].seen, servers[2].seen) == (1, [], [])


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"records":[]}'])
async def test_what_is_no_answer_is_named_and_no_other_node_covers_it_up(
    servers: list[Server], bus: Bus, body: bytes
) -> None:
    servers[0].answers[RECORDS] = always(200, body)
    with pytest.raises(Untrusted):
        await bus.users()


async def test_nodes_that_all_cannot_are_asked_until_the_deadline_and_named(servers: list[Server], bus: Bus) -> None:
    for server in servers:
        server.answers[RECORDS] = always(503, problem(503, "storage-unavailable"))
    forget(servers)
    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        await bus.users()
    assert 0.3 * DEADLINE < time.monotonic() - began < 2 * DEADLINE
    asked = [server.seen.count(f"GET {RECORDS}") for server in servers]
    assert min(asked) >= 2
    assert max(asked) < 15  # it waits between the rounds


async def test_a_fault_that_every_node_has_is_told_after_one_round(servers: list[Server], bus: Bus) -> None:
    for server in servers:
        server.answers[RECORDS] = always(401, problem(401, "signature-stale"))
    forget(servers)
    with pytest.raises(SignatureStale):
        await bus.users()
    assert [server.seen.count(f"GET {RECORDS}") for server in servers] == [1, 1, 1]


async def test_every_try_is_signed_anew_and_for_its_node(servers: list[Server], bus: Bus) -> None:
    signed: list[tuple[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        signed.append((request.headers["Signature-Input"], request.headers["Signature"]))
        return web.Response(status=503)

    for server in servers:
        server.answers[RECORDS] = answer
    with pytest.raises(Unreachable):
        await bus.users()
    assert len(signed) > 3
    assert len({inputs for inputs, _ in signed}) == len({signature for _, signature in signed}) == len(signed)


@pytest.mark.parametrize("body", [problem(429, "rate-limited", retry_after=0.3), b""])
async def test_a_limit_is_waited_for_and_not_got_round(servers: list[Server], bus: Bus, body: bytes) -> None:
    times: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        times.append(time.monotonic())
        if len(times) > 1:
            return servers[0].records(DIRECTORY, request)
        return web.Response(status=429, body=body, headers={"Retry-After": "0"})

    servers[0].answers[RECORDS] = answer
    forget(servers)
    await bus.users()
    assert len(times) == 2
    assert times[1] - times[0] >= (0.3 if body else 0.04)
    assert servers[1].seen == servers[2].seen == []


async def test_a_node_that_says_it_closes_is_left_before_it_does(servers: list[Server], bus: Bus) -> None:
    async def answer(request: web.Request) -> web.Response:
        response = servers[0].records(DIRECTORY, request)
        response.force_close()
        return response

    servers[0].answers[RECORDS] = answer
    forget(servers)
    await bus.users()
    await bus.users()
    assert len(servers[0].seen) == 1
    assert len(servers[1].seen) == 2


async def test_a_node_that_is_behind_is_passed_over_for_one_that_is_not(
    servers: list[Server], state: Path, world: World
) -> None:
    for memory in (state, None):  # it is behind what an earlier run has seen, then behind what this one has
        async with connect(urls(*servers), BOB, deadline=DEADLINE, state=memory) as bus:
            del servers[0].world.logs[DIRECTORY][-1]
            assert len(await bus.users()) == 3
            assert bus.api.url != servers[0].url
            assert bus.directory.head == world.directory.head
        servers[0].world = world.split()
    async with connect(urls(*servers), BOB, deadline=DEADLINE, state=state):
        pass
    del servers[0].world.logs[DIRECTORY][-1]
    async with connect(urls(*servers), BOB, deadline=DEADLINE, state=state) as bus:
        assert bus.directory.head == world.directory.head


async def test_a_log_is_rolled_back_when_all_nodes_insist_until_the_deadline(servers: list[Server], bus: Bus) -> None:
    for server in servers[:2]:
        del server.world.logs[DIRECTORY][-1]
    servers[2].answers[RECORDS] = always(503)
    began = time.monotonic()
    with pytest.raises(LogRolledBack, match="before"):
        await bus.users()
    assert time.monotonic() - began > 0.3 * DEADLINE


async def test_with_one_node_a_log_is_rolled_back_at_once(servers: list[Server]) -> None:
    async with connect(servers[0].url, BOB) as bus:
        del servers[0].world.logs[DIRECTORY][-1]
        began = time.monotonic()
        with pytest.raises(LogRolledBack):
            await bus.users()
        assert time.monotonic() - began < 1


async def test_a_key_that_one_node_has_not_yet_is_looked_for_elsewhere(
    servers: list[Server], bus: Bus, world: World, plans: str
) -> None:
    room = await bus.replica.sync_room(plans)
    key = f"room/{plans}", BOB.user
    behind = servers[0].world
    behind.sealed[key] = behind.sealed[key][:-1]
    del behind.logs[f"room/{plans}"][-2:]
    number = len(room.epochs)
    assert await bus.keyring.key(room, number) == world.keys[plans, number]


async def test_who_names_records_that_one_node_has_not_yet_is_no_liar(
    servers: list[Server], bus: Bus, plans: str
) -> None:
    await bus.replica.sync_room(plans)
    servers[1].world.rotate(plans)
    servers[2].world = servers[1].world
    wanted = servers[1].world.rooms[plans].head
    await bus.replica.look_for(plans, wanted.sequence, 0)
    assert bus.replica.rooms[plans].head == wanted
    servers[0].world = servers[1].world
    await bus.users()
    forget(servers)
    await bus.replica.look_for(plans, 2**31, 2**31)  # any member may say so: each node is asked, and that is all
    asked = [server.seen.count(f"GET {RECORDS}") for server in servers]
    assert asked == [1, 1, 1]


async def test_a_node_of_another_bus_gets_nothing_signed_and_is_passed_over(servers: list[Server], bus: Bus) -> None:
    other = World(seed="elsewhere")
    other.admit("bob")
    servers[0].answers[RECORDS] = always(503)
    servers[1].world = other
    forget(servers)
    await bus.users()
    assert servers[1].seen == ["GET /v1/bus"]
    assert servers[2].seen == ["GET /v1/bus", f"GET {RECORDS}"]
    servers[2].answers[RECORDS] = always(403, problem(403, "wrong-bus"))
    servers[0].answers[RECORDS] = always(403, problem(403, "wrong-bus"))
    with pytest.raises(WrongBus):
        await bus.users()


async def test_who_remembers_the_bus_does_not_mind_a_stranger_first_in_the_list(
    servers: list[Server], state: Path, world: World
) -> None:
    async with connect(servers[1].url, BOB, state=state):
        pass
    other = World(seed="elsewhere")
    other.admit("bob")
    servers[0].world = other
    for memory, known in ((state, None), (None, world.bus)):
        async with connect(urls(*servers), BOB, deadline=DEADLINE, state=memory, bus=known) as bus:
            assert (bus.id, len(await bus.users())) == (world.bus, 3)
    for server in servers:
        server.world = other
    with pytest.raises(WrongBus):
        async with connect(urls(*servers), BOB, deadline=DEADLINE, state=state):
            pytest.fail("connected to another bus")
    assert Memory(state).bus == world.bus


@pytest.mark.parametrize("answer", [always(404, b"<html>not here</html>"), always(200, b"hello"), always(302)])
async def test_a_learnt_address_that_is_no_node_changes_nothing(servers: list[Server], answer: Answer) -> None:
    async with connect(servers[0].url, BOB, deadline=DEADLINE) as bus:
        servers[1].answers = dict.fromkeys(("/v1/bus", RECORDS), answer)
        bus.api.nodes.learn([servers[1].url, servers[2].url])
        servers[0].answers[RECORDS] = always(503)
        assert len(await bus.users()) == 3
        assert servers[1].seen == ["GET /v1/bus"]


async def test_a_node_with_a_certificate_of_nobodys_is_passed_over(world: World, tmp_path: Path) -> None:
    good, bad = Authority(tmp_path / "good"), Authority(tmp_path / "bad")
    async with serving(world, served(bad)) as impostor, serving(world, served(good)) as honest:
        async with connect(urls(impostor, honest), BOB, deadline=DEADLINE, ca=good.ca) as bus:
            assert len(await bus.users()) == 3
        assert impostor.seen == []


async def test_the_token_that_founds_a_bus_goes_to_the_first_node_only(servers: list[Server], state: Path) -> None:
    servers[0].answers["/v1/bus"] = always(403, problem(403, "bootstrap-refused"))
    with pytest.raises(BootstrapRefused):
        await found_bus(urls(*servers), identity("eve"), "a token", "eve", state=state, deadline=DEADLINE)
    assert "POST /v1/bus" in servers[0].seen
    assert not any("POST /v1/bus" in server.seen for server in servers[1:])


async def test_the_audit_trail_is_one_nodes_and_stays_so(servers: list[Server], bus: Bus) -> None:
    page = b'{"node":"here","entries":[]}'
    servers[0].answers["/v1/audit"] = always(200, page)
    servers[1].answers["/v1/audit"] = always(200, page)
    await bus.api.audit(0, 0)
    servers[0].answers["/v1/audit"] = always(503)
    with pytest.raises(Unreachable):
        await bus.api.audit(0, 0)
    assert "GET /v1/audit" not in servers[1].seen + servers[2].seen


@pytest.mark.parametrize("more", [True, False], ids=["the log has moved on", "it is answered as the first time"])
async def test_a_change_that_is_in_already_is_not_made_again(
    servers: list[Server], world: World, *, more: bool
) -> None:
    """The first node stores it and hangs up. The next is asked again, when there may be one record more."""
    posted: list[bytes] = []

    async def stores_and_hangs_up(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return servers[0].records(DIRECTORY, request)
        posted.append((await request.json())["record"].encode())
        world.take(Change(DIRECTORY, posted[-1], {}))
        if more:
            world.take(world.signer("ada").rename(world.directory, BOB.user, "rob"))
        for server in servers:
            server.world = world
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def has_it(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return servers[1].records(DIRECTORY, request)
        posted.append((await request.json())["record"].encode())
        head = HeadView(sequence=world.directory.head.sequence, hash=world.directory.head.hash)
        if more:
            return web.Response(status=409, body=problem(409, "head-conflict"))
        return web.json_response(text=head.model_dump_json(), status=201)

    servers[0].answers[RECORDS], servers[1].answers[RECORDS] = stores_and_hangs_up, has_it
    async with connect(urls(*servers), identity("ada"), deadline=5.0) as bus:
        await bus.admit("zoe", identity("zoe").card())
        assert [user.handle for user in await bus.users()].count("zoe") == 1
    assert len(posted) == 2
    assert len(set(posted)) == 1


async def test_what_is_gone_after_a_lost_answer_was_deleted(servers: list[Server], bus: Bus, plans: str) -> None:
    path = f"/v1/rooms/{plans}/blobs/{'A' * 43}"

    async def hangs_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    gone = always(404, problem(404, "not-found"))
    for server in servers:
        server.answers[path] = gone
    room = await bus.room("plans")
    with pytest.raises(NotFound):
        await room.delete_blob("A" * 43)
    servers[0].answers[path] = hangs_up
    await room.delete_blob("A" * 43)
    assert f"DELETE {path}" in servers[1].seen


async def test_nodes_that_take_connections_and_say_nothing_are_left_in_time(servers: list[Server]) -> None:
    async with AsyncExitStack() as stack:
        mute = stack.enter_context(socket.socket())
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        began = time.monotonic()
        async with asyncio.timeout(20), connect(f"{url},{servers[0].url}", BOB) as bus:
            assert len(await bus.users()) == 3
        assert time.monotonic() - began < 8


async def test_after_the_end_nothing_is_asked_of_any_node(servers: list[Server]) -> None:
    api = ControlApi(urls(*servers), BOB.signing, time.time, 5.0)
    with pytest.raises(Unreachable, match="closed"):
        await api.bus_view()
    assert [server.seen for server in servers] == [[], [], []]


async def test_who_was_given_one_address_learns_the_others_and_outlives_it(servers: list[Server]) -> None:
    def naming(*others: str) -> Answer:
        genuine = servers[0].bus().body
        assert isinstance(genuine, bytes)
        return always(200, json.dumps(json.loads(genuine) | {"nodes": others}).encode())

    servers[0].answers["/v1/bus"] = naming(servers[1].url, "http://elsewhere.example/path", "https://127.0.0.1:1")
    async with connect(servers[0].url, BOB, deadline=DEADLINE) as bus:
        assert len(bus.api.nodes) == 2
        servers[0].answers[RECORDS] = always(503)
        assert len(await bus.users()) == 3
        assert servers[1].seen == ["GET /v1/bus", f"GET {RECORDS}"]
        assert [str(node).rstrip("/") for node in bus.api.nodes.given] == [servers[0].url]  # what an invite names
