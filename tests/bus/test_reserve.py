"""Room for records beside messages: when it is kept, and that members who send all they can leave it."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.js.errors import APIError

from tests.bus.stage import ROOM, Logbook, Stage, TablePolicy, eventually
from tests.support.processes import WAIT
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.bus.reserve import AGAIN, LAST, STEP, TAKEN, Stored, is_sure, is_taken, most_bytes, share
from unibus.model.subjects import STREAM

GIB, MIB = 1 << 30, 1 << 20
STORE = 64 * MIB
MESSAGE = 250_000
BYTES = st.integers(0, 1 << 50)


@pytest.mark.parametrize(
    ("others", "most", "room"),
    [
        (0, 100 * GIB, 90 * GIB),
        (80 * GIB, 100 * GIB, 10 * GIB),
        (95 * GIB, 100 * GIB, -5 * GIB),
        (0, 256 * MIB, 192 * MIB),
        (0, 64 * MIB, 32 * MIB),
    ],
)
def test_a_tenth_is_for_records_or_64_mib_and_never_more_than_half(others: int, most: int, room: int) -> None:
    assert share([Stored(others, most)], 1) == room


@pytest.mark.parametrize(
    ("room", "replicas", "counts"),
    [
        ([4, 9, 5], 3, 5),  # two of three can take a record with this
        ([9, -3, 5], 3, 5),  # one whose disk is full
        ([-2, -3, 5], 3, -2),
        ([4, 9], 3, 4),  # one does not answer: the two that are left need room
        ([7, 1, 9, -5, 8], 5, 7),
        ([7, 1, 9], 1, 7),
        ([-1, 5, 9], 1, -1),
    ],
)
def test_a_majority_needs_room(room: list[int], replicas: int, counts: int) -> None:
    assert share([Stored(9 * GIB - one * MIB, 10 * GIB) for one in room], replicas) == counts * MIB


@given(st.lists(st.builds(Stored, BYTES, BYTES), min_size=1, max_size=5))
def test_messages_in_their_share_leave_what_is_kept_on_a_majority(servers: list[Stored]) -> None:
    messages = share(servers, len(servers))
    fit = sum(one.others + messages + one.kept <= one.most for one in servers)
    assert fit > len(servers) // 2


@pytest.mark.parametrize(
    ("answered", "asked", "replicas", "sure"),
    [
        (1, 1, 1, True),
        (1, 1, 3, False),  # it leads, so others are there, and are not known of yet
        (2, 2, 3, True),
        (2, 3, 3, False),
        (3, 3, 3, True),
        (2, 2, 5, False),
        (3, 3, 5, True),
    ],
)
def test_the_share_grows_only_by_the_word_of_a_majority(answered: int, asked: int, replicas: int, sure: bool) -> None:
    assert is_sure(answered, asked, replicas) is sure


@pytest.mark.parametrize(
    ("room", "most", "sure", "wanted"),
    [
        (5 * MIB, -1, False, 5 * MIB),
        (-1, -1, True, 1),  # 0 would mean any number
        (-1, 0, True, 1),
        (-1, 5 * MIB, False, 1),
        (5 * MIB, 5 * MIB + STEP - 1, True, 5 * MIB + STEP - 1),
        (5 * MIB, 5 * MIB + STEP, False, 5 * MIB),
        (5 * MIB + STEP - 1, 5 * MIB, True, 5 * MIB),
        (5 * MIB + STEP, 5 * MIB, True, 5 * MIB + STEP),
        (5 * MIB + STEP, 5 * MIB, False, 5 * MIB),  # who does not answer may have less
    ],
)
def test_what_the_stream_may_hold(room: int, most: int, sure: bool, wanted: int) -> None:
    assert most_bytes(room, most, sure=sure) == wanted


@given(st.integers(-(1 << 50), 1 << 50), st.integers(-1, 1 << 50), st.booleans())
def test_the_stream_never_holds_much_more_than_its_share(room: int, most: int, sure: bool) -> None:
    told = most_bytes(room, most, sure=sure)
    assert 0 < told < max(room, 1) + STEP
    assert most_bytes(room, told, sure=sure) == told


@pytest.mark.parametrize(
    ("left", "before", "taken"),
    [(LAST, False, False), (LAST - 1, False, True), (AGAIN - 1, True, True), (AGAIN, True, False), (-1, False, True)],
)
def test_when_it_counts_as_taken(left: int, before: bool, taken: bool) -> None:
    assert is_taken(left, before=before) is taken


async def fill(stage: Stage, body: bytes) -> int:
    """Send all that is taken, from one connection, a number at once; how many messages that was."""
    sent = 0
    async with stage.connect(stage.member(ROOM)) as member:

        async def send() -> None:
            nonlocal sent
            while True:
                answer = await member.publish(data=body)
                match answer:
                    case {"error": {"err_code": 10077, "description": "maximum bytes exceeded"}}:
                        return
                    case {"seq": int()}:
                        sent += 1

        await asyncio.gather(*(send() for _ in range(8)))
    return sent


async def shares(core: Client, until: Callable[[int], bool]) -> list[int]:
    """What the messages' stream may hold, -1 for any number, again and again until `until` holds of it."""
    seen: list[int] = []
    async with asyncio.timeout(WAIT):
        while not (seen and until(seen[-1])):
            await asyncio.sleep(0.01)
            seen.append(int((await core.jetstream().stream_info(STREAM)).config.max_bytes or 0))
    return seen


async def test_members_fill_the_bus_and_there_is_room_for_records(tmp_path: Path) -> None:
    log, policy = Logbook(), TablePolicy()
    plane = BusPlane(BusOptions(tmp_path, port=0, max_store=STORE, records=True), policy, log.logger)
    await plane.start()
    try:
        stage = Stage(plane, policy, log)
        core = await plane.core_dial()
        try:
            await shares(core, lambda most: most == STORE // 2)
            sent = await fill(stage, os.urandom(MESSAGE))
            await eventually(lambda: plane.closed)
            assert (plane.status()["reasons"], plane.status()["reserve"]) == ([TAKEN], True)
            jetstream = core.jetstream()
            info = await jetstream.stream_info(STREAM)
            assert info.config.max_bytes == STORE // 2
            assert STORE // 2 - MESSAGE - 1000 < info.state.bytes <= STORE // 2
            await jetstream.add_stream(name="KV_records", subjects=["$KV.records.>"])
            for number in range(150):  # more than nats-server's limit would let in, if it were the one that is meant
                await jetstream.publish(f"$KV.records.{number}", os.urandom(500_000))
            await shares(core, lambda most: most < STORE // 2)
            info = await jetstream.stream_info(STREAM)
            assert (info.state.messages, info.state.first_seq) == (sent, 1)
            with pytest.raises(APIError, match="maximum bytes exceeded"):
                await jetstream.publish(f"room.{ROOM}.msg.x", b"small")
            await jetstream.delete_stream("KV_records")
        finally:
            await core.close()
        assert await plane.drop(ROOM) == sent
        await eventually(lambda: not plane.closed)
        async with stage.connect(stage.member(ROOM)) as member:
            assert (await member.publish())["seq"] == sent + 1
        assert plane.status()["reasons"] == []
    finally:
        await plane.stop()


async def shares_in_a_life(data: Path, store: int) -> set[int]:
    """What the stream may hold from a start with the limit `store` on, until that is all but 64 MiB of it."""
    plane = BusPlane(BusOptions(data, port=0, max_store=store, records=True), TablePolicy(), Logbook().logger)
    await plane.start()
    try:
        assert plane.status()["most_stored"] == store
        core = await plane.core_dial()
        try:
            return set(await shares(core, lambda most: most == store - STORE))
        finally:
            await core.close()
    finally:
        await plane.stop()


async def test_the_share_outlives_a_restart_and_follows_the_limit(tmp_path: Path) -> None:
    assert await shares_in_a_life(tmp_path, 4 * STORE) <= {-1, 3 * STORE}
    assert await shares_in_a_life(tmp_path, 2 * STORE) <= {3 * STORE, STORE}
    assert await shares_in_a_life(tmp_path, 4 * STORE) <= {STORE, 3 * STORE}


async def test_a_stream_that_an_older_node_has_closed_takes_messages_again(tmp_path: Path) -> None:
    log, policy = Logbook(), TablePolicy()
    plane = BusPlane(BusOptions(tmp_path, port=0, max_store=STORE, records=True), policy, log.logger)
    await plane.start()
    try:
        core = await plane.core_dial()
        try:
            await shares(core, lambda most: most > 0)
            found = (await core.jetstream().stream_info(STREAM)).config
            await core.jetstream().update_stream(found.evolve(max_msgs=1))
        finally:
            await core.close()
        stage = Stage(plane, policy, log)
        async with stage.connect(stage.member(ROOM)) as member, asyncio.timeout(WAIT):
            sent = 0
            while sent < 2:
                sent += "error" not in await member.publish()
                await asyncio.sleep(0.01)
    finally:
        await plane.stop()
