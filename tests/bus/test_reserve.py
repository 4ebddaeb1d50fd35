"""Room for records beside messages: when it is kept, and that members who send all they can leave it."""

import asyncio
import os
from pathlib import Path

import pytest
from nats.js.errors import APIError

from tests.bus.stage import ROOM, Logbook, Stage, TablePolicy, eventually
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.bus.reserve import AGAIN, EVERY, FASTEST, SOONEST, TAKEN, Stored, most_messages, pause, room
from unibus.model.subjects import STREAM

GIB, MIB = 1 << 30, 1 << 20
STORE = 64 * MIB


@pytest.mark.parametrize(
    ("stored", "most", "free"),
    [
        (0, 100 * GIB, 90 * GIB),
        (80 * GIB, 100 * GIB, 10 * GIB),
        (95 * GIB, 100 * GIB, -5 * GIB),
        (0, 256 * MIB, 192 * MIB),
        (0, 64 * MIB, 32 * MIB),
    ],
)
def test_a_tenth_is_for_records_or_64_mib_and_never_more_than_half(stored: int, most: int, free: int) -> None:
    assert room([Stored(stored, most)], 1) == free


@pytest.mark.parametrize(
    ("free", "replicas", "counts"),
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
def test_a_majority_needs_room(free: list[int], replicas: int, counts: int) -> None:
    assert room([Stored(9 * GIB - one * MIB, 10 * GIB) for one in free], replicas) == counts * MIB


@pytest.mark.parametrize(
    ("free", "held", "most", "sure", "wanted"),
    [
        (1, 5, -1, True, -1),
        (0, 5, -1, True, 5),
        (-1, 0, -1, True, 1),  # 0 would mean any number
        (-1, 5, 0, True, 5),
        (-1, 5, 5, True, 5),
        (-1, 4, 5, True, 4),  # some were dropped, which were perhaps smaller than those that would come
        (-1, 6, 5, True, 5),  # one that came meanwhile stays
        (AGAIN, 5, 5, True, 5),
        (AGAIN + 1, 5, 5, True, -1),
        (AGAIN + 1, 5, 5, False, 5),
        (-1, 5, -1, False, 5),
    ],
)
def test_when_messages_are_taken(free: int, held: int, most: int, sure: bool, wanted: int) -> None:
    assert most_messages(free, held, most, sure=sure) == wanted


@pytest.mark.parametrize(
    ("free", "closed", "seconds"),
    [(10 * GIB, False, EVERY), (FASTEST // 4, False, 0.25), (1, False, SOONEST), (-1, True, EVERY)],
)
def test_it_is_looked_more_often_near_the_end(free: int, closed: bool, seconds: float) -> None:
    assert pause(free, closed=closed) == seconds


async def fill(stage: Stage) -> int:
    """Send all that is taken, from one connection, a number at once; how many messages that was."""
    sent = 0
    body = os.urandom(250_000)
    async with stage.connect(stage.member(ROOM)) as member:

        async def send() -> None:
            nonlocal sent
            while True:
                answer = await member.publish(data=body)
                match answer:
                    case {"error": {"err_code": 10077, "description": "maximum messages exceeded"}}:
                        return
                    case {"seq": int()}:
                        sent += 1

        await asyncio.gather(*(send() for _ in range(8)))
    return sent


async def test_members_fill_the_bus_and_there_is_room_for_records(tmp_path: Path) -> None:
    log, policy = Logbook(), TablePolicy()
    plane = BusPlane(BusOptions(tmp_path, port=0, max_store=STORE, records=True), policy, log.logger)
    await plane.start()
    try:
        stage = Stage(plane, policy, log)
        sent = await fill(stage)
        assert sent * 250_000 > STORE // 3
        await eventually(lambda: plane.closed)
        assert plane.status()["reasons"] == [TAKEN]
        core = await plane.core_dial()
        try:
            jetstream = core.jetstream()
            await jetstream.add_stream(name="KV_records", subjects=["$KV.records.>"])
            for number in range(20):
                await jetstream.publish(f"$KV.records.{number}", os.urandom(500_000))
            info = await jetstream.stream_info(STREAM)
            assert (info.state.messages, info.state.first_seq) == (sent, 1)
            with pytest.raises(APIError, match="maximum messages exceeded"):
                await jetstream.publish(f"room.{ROOM}.msg.x", b"small")
        finally:
            await core.close()
        assert await plane.drop(ROOM) == sent
        await eventually(lambda: not plane.closed)
        async with stage.connect(stage.member(ROOM)) as member:
            assert (await member.publish())["seq"] == sent + 1
        assert plane.status()["reasons"] == []
    finally:
        await plane.stop()
