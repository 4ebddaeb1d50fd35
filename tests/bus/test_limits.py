"""What one member cannot take from the others: the queue, the connections, the disk."""

import asyncio
import json
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.bus.stage import OTHER_ROOM, ROOM, Logbook, Member, Stage, TablePolicy, can_connect, signed
from unibus.bus.callout import MOST_OF_ONE
from unibus.bus.options import BusOptions
from unibus.bus.pace import BYTES_AT_ONCE, KEPT_OUT, MESSAGES, MESSAGES_AT_ONCE, Pace, Received
from unibus.bus.plane import BusPlane
from unibus.bus.registry import Registry
from unibus.bus.room_on_disk import KEPT_FREE, LEAST, measured_limit, store_limit
from unibus.model.subjects import room_signals

GIB = 1 << 30
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def log_in(port: int, member: Member) -> Streams:
    """A bare connection of `member` that is in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    info = json.loads((await reader.readline()).removeprefix(b"INFO "))
    told = {"verbose": False, "protocol": 1, **signed(member, info["nonce"])}
    writer.write(b"CONNECT " + json.dumps(told).encode() + b"\r\nPING\r\n")
    while (line := await reader.readline()).startswith(b"INFO"):
        pass
    if line != b"PONG\r\n":
        writer.transport.abort()
        raise ConnectionRefusedError(line)
    return reader, writer


async def flood(port: int, member: Member, rate: float = 1e6) -> float:
    """Publish `rate` messages a second and wait for nothing until the connection is cut; how many seconds that took."""
    _, writer = await log_in(port, member)
    many = b"PUB %s 1000\r\n%s\r\n" % (member.sender().encode(), bytes(1000)) * 100
    began, sent = time.monotonic(), 0
    try:
        while True:
            writer.write(many)
            await writer.drain()
            sent += 100
            await asyncio.sleep(max(0.0, began + sent / rate - time.monotonic()))
    except ConnectionError:
        return time.monotonic() - began
    finally:
        writer.transport.abort()


async def stored(stage: Stage, writer: Member, room: str, patience: float) -> float:
    """How long it takes until a message is stored, as somebody waits who tries again when there is no room."""
    async with stage.connect(writer) as connection:
        began = time.monotonic()
        async with asyncio.timeout(patience):
            while "error" in (answer := await connection.publish(room, b"in between")):
                assert answer["error"] == {"code": 429, "err_code": 10167, "description": "too many requests"}
                await asyncio.sleep(0.05)
        return time.monotonic() - began


async def test_who_floods_the_bus_is_cut_off_and_others_wait_for_moments(stage: Stage) -> None:
    mallory, bob = stage.member(ROOM), stage.member(OTHER_ROOM)
    flooding = asyncio.create_task(flood(stage.plane.client_port, mallory))
    try:
        await stored(stage, bob, OTHER_ROOM, 8)
        assert await asyncio.wait_for(flooding, 8) < 8
    finally:
        flooding.cancel()
    await stage.log.heard("a member sent too much and is kept out for a while", user=mallory.user)
    assert not await can_connect(stage, mallory)
    assert await stored(stage, bob, OTHER_ROOM, 8) < 8


async def test_who_stays_below_what_comes_at_once_is_cut_off_too_and_named(tmp_path: Path) -> None:
    policy, log, cut_off = TablePolicy(), Logbook(), list[str]()
    plane = BusPlane(BusOptions(tmp_path, port=0), policy, log.logger, cut_off=cut_off.append)
    await plane.start()
    try:
        stage = Stage(plane, policy, log)
        mallory, bob = stage.member(ROOM), stage.member(OTHER_ROOM)
        async with stage.connect(bob) as b:
            async with asyncio.timeout(20):
                halves = [flood(plane.client_port, mallory, 4_500) for _ in range(2)]
                assert max(await asyncio.gather(*halves)) < 15
            assert "seq" in await b.publish(OTHER_ROOM)
        assert cut_off == [mallory.user]
        assert not await can_connect(stage, mallory)
    finally:
        await plane.stop()


def over(*counts: tuple[int, str, Received, float], now: float) -> list[str]:
    """Who is too fast at the time `now` after these counts."""
    pace = Pace()
    for count in counts:
        pace.count(*count)
    return pace.too_fast(now)


ALL, MORE, ONE = Received(MESSAGES_AT_ONCE, 1), Received(MESSAGES_AT_ONCE + 1, 1), Received(1, 1)


@pytest.mark.parametrize(
    ("counts", "found"),
    [
        ([(1, "a", ALL, 5.0)], []),
        ([(1, "a", MORE, 5.0)], ["a"]),
        ([(1, "a", Received(1, BYTES_AT_ONCE), 5.0)], []),
        ([(1, "a", Received(1, BYTES_AT_ONCE + 1), 5.0)], ["a"]),
        ([(1, "a", ALL, 5.0), (2, "a", ONE, 5.0), (3, "b", ALL, 5.0)], ["a"]),
        ([(1, "a", ALL, 0.0), (1, "a", Received(MESSAGES_AT_ONCE + 5 * MESSAGES, 1), 5.0)], []),
        ([(1, "a", ALL, 0.0), (1, "a", Received(MESSAGES_AT_ONCE + 5 * MESSAGES + 1, 1), 5.0)], ["a"]),
        ([(1, "a", ALL, 5.0), (1, "a", ALL, 5.0), (1, "a", ALL, 5.0)], []),
    ],
)
def test_what_is_too_fast(counts: list[tuple[int, str, Received, float]], found: list[str]) -> None:
    assert over(*counts, now=5.0) == found


@pytest.mark.parametrize(("rate", "after"), [(MESSAGES, None), (2 * MESSAGES, 6), (9_000, 2), (100_000, 1)])
def test_whoever_goes_on_above_the_pace_is_found_however_long_they_kept_quiet(rate: int, after: int | None) -> None:
    pace = Pace()
    pace.count(1, "a", ONE, 0.0)
    found = None
    for second in range(1, 60):
        pace.count(1, "a", Received(1 + rate * second, 1), 1e6 + second)
        if found is None and pace.too_fast(1e6 + second):
            found = second
    assert found == after


def test_many_short_connections_are_counted_too_and_nothing_of_them_is_kept() -> None:
    pace = Pace()
    for cid in range(MESSAGES_AT_ONCE // 1000 + 1):
        pace.gone(cid, "a", Received(1000, 1000), 5.0)
    assert pace.too_fast(5.0) == ["a"]
    pace.keep_out("a", 5.0)
    assert pace.too_fast(5.0) == []
    pace.gone(99, "", MORE, 5.0)
    assert pace.too_fast(5.0) == []


def test_being_kept_out_ends() -> None:
    pace = Pace()
    pace.keep_out("one", 100.0)
    assert pace.kept_out("one", 100.0 + KEPT_OUT - 0.1)
    assert not pace.kept_out("one", 100.0 + KEPT_OUT)
    assert not pace.kept_out("other", 100.0)


def test_connections_are_counted_by_user() -> None:
    registry = Registry()
    for cid, user in ((1, "one"), (2, "one"), (3, "other"), (2, "one")):
        registry.asked(cid, user, 0.0)
    assert [registry.held_by(user) for user in ("one", "other", "nobody")] == [2, 1, 0]
    registry.asked(2, "other", 0.0)  # a number that was given anew
    assert [registry.held_by(user) for user in ("one", "other")] == [1, 2]
    for cid in (1, 1, 2, 3):
        registry.gone(cid)
    assert [registry.held_by(user) for user in ("one", "other")] == [0, 0]
    assert (registry.user_of(1), registry.user_of(99)) == ("", "")


async def test_one_user_cannot_have_all_connections_nor_send_a_little_over_each(stage: Stage) -> None:
    mallory, bob = stage.member(ROOM), stage.member(ROOM)
    port = stage.plane.client_port
    held: list[Streams] = []
    try:
        while len(held) < MOST_OF_ONE:
            held += await asyncio.gather(*(log_in(port, mallory) for _ in range(50)))
        with pytest.raises(ConnectionRefusedError, match="Authorization"):
            await log_in(port, mallory)
        assert await can_connect(stage, bob)
        await stage.log.heard("a connection was refused", user=mallory.user, code="limit-reached")
        little = b"PUB %s 0\r\n\r\n" % room_signals(ROOM, mallory.user).encode()
        for _, writer in held:
            writer.write(little * (MESSAGES_AT_ONCE // MOST_OF_ONE + 4))
        await stage.log.heard("a member sent too much and is kept out for a while", user=mallory.user)
        async with asyncio.timeout(10):
            await asyncio.gather(*(reader.read() for reader, _ in held), return_exceptions=True)
    finally:
        for _, writer in held:
            writer.transport.abort()


async def test_more_connections_than_the_node_takes_are_refused(tmp_path: Path) -> None:
    policy, log = TablePolicy(), Logbook()
    plane = BusPlane(BusOptions(tmp_path, port=0, connections=8), policy, log.logger)
    await plane.start()
    try:
        stage = Stage(plane, policy, log)
        alice = stage.member(ROOM)
        async with AsyncExitStack() as stack:
            for _ in range(5):  # the daemon has three
                await stack.enter_async_context(stage.connect(alice))
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError, ValueError)):
                await log_in(plane.client_port, alice)
            assert plane.status()["ready"] is True
        settings = json.loads((tmp_path / "run" / "nats-server.conf").read_text())
    finally:
        await plane.stop()
    assert settings["max_connections"] == 8
    for name in ("max_subscriptions", "max_pending", "write_deadline", "max_control_line", "max_payload"):
        assert settings[name]


async def test_a_full_store_refuses_and_goes_on_delivering(tmp_path: Path) -> None:
    policy, log = TablePolicy(), Logbook()
    plane = BusPlane(BusOptions(tmp_path, port=0, max_store=2 << 20), policy, log.logger)
    await plane.start()
    try:
        stage = Stage(plane, policy, log)
        async with stage.connect(stage.member(ROOM)) as a:
            answers = [await a.publish(data=bytes(200_000)) for _ in range(12)]
            assert answers[0]["seq"] == 1
            assert answers[-1]["error"] == {"code": 503, "err_code": 10023, "description": "insufficient resources"}
            assert len((await (await a.read()).next()).data) == 200_000
        assert plane.status()["most_stored"] == 2 << 20
    finally:
        await plane.stop()


@pytest.mark.parametrize(
    ("total", "free", "used", "limit"),
    [
        (100 * GIB, 100 * GIB, 0, 90 * GIB),
        (100 * GIB, 40 * GIB, 0, 30 * GIB),
        (100 * GIB, 40 * GIB, 50 * GIB, 80 * GIB),
        (100 * GIB, 0, 95 * GIB, 85 * GIB),
        (100 * GIB, 5 * GIB, 0, LEAST),
    ],
)
def test_how_much_of_a_disk_messages_take(total: int, free: int, used: int, limit: int) -> None:
    assert store_limit(total, free, used) == limit


def test_what_is_measured_is_this_disk(tmp_path: Path) -> None:
    before = measured_limit(tmp_path)
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    assert before >= LEAST
    assert abs(measured_limit(tmp_path) - before) < GIB  # what is used moves from free to used
    assert KEPT_FREE == 10
