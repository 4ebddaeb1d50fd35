"""nats-server killed again and again while several people write and read: each message once, in order, none lost.

And who joins in the middle of all that: nothing is lost and nothing comes twice, whatever the room's history policy.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import chain

import pytest

from tests.e2e.conftest import StartDaemon
from tests.e2e.load import AHEAD
from tests.e2e.test_faults import down, health_where, well
from tests.support.daemon import Daemon
from tests.support.people import Place, Tail, tail
from tests.support.processes import kill_nats_server
from unibus import Message, Room
from unibus.client.batching import Sent
from unibus.client.messages import Position
from unibus.model.bodies import History

KILLS, EVERY = 10, 2.0  # seconds
PACE = 0.001  # seconds between two messages of one writer
PEOPLE = ("ada", "bob", "cyd")
Written = list[tuple[Position, str]]


async def write(room: Room, name: str, enough: asyncio.Event) -> Written:
    """Numbered messages of one writer until there are enough; the place of each, as it was acknowledged."""
    posted: list[tuple[Sent, str]] = []
    written: Written = []
    while not enough.is_set():
        text = f"{name} {len(posted)}"
        posted.append((room.post(text), text))
        if len(posted) - len(written) > AHEAD:
            sent, before = posted[len(written)]
            written.append((await sent, before))
        await asyncio.sleep(PACE)
    return written + [(await sent, text) for sent, text in posted[len(written) :]]


def as_read(messages: list[Message]) -> Written:
    return [(message.position, message.text) for message in messages]


async def all_of(reading: Tail, count: int) -> Written:
    await reading.until(count)
    return as_read(reading.got)


async def killed_again_and_again(daemon: Daemon, kills: int) -> None:
    """Kill the server, wait until it serves again, let it work for a while, and so on."""
    for _ in range(kills):
        kill_nats_server(daemon.data_dir)
        await health_where(daemon, down)
        await health_where(daemon, well)
        await asyncio.sleep(EVERY)


async def every_message_survives(daemon: Daemon, kills: int) -> None:
    place, enough = Place(daemon.url, daemon.data_dir), asyncio.Event()
    await place.found(*PEOPLE[1:])
    async with asyncio.timeout(kills * 15 + 60), AsyncExitStack() as stack:
        enter = stack.enter_async_context
        buses = [await enter(place.enter(name)) for name in PEOPLE]
        room = await buses[0].create_room("ops")
        for name in PEOPLE[1:]:
            await room.add(name)
        rooms = [await bus.room("ops") for bus in buses]
        readings = [await enter(tail(seen)) for seen in rooms]
        writing = [asyncio.create_task(write(seen, name, enough)) for seen, name in zip(rooms, PEOPLE, strict=True)]
        await readings[0].until(100)
        await killed_again_and_again(daemon, kills)
        enough.set()
        written = [await task for task in writing]
        expected = sorted(chain.from_iterable(written))
        for reading in [*readings, await enter(tail(rooms[0]))]:
            assert await all_of(reading, len(expected)) == expected
            assert reading.refused == []
        for own in written:
            assert own == sorted(own), "each writer's messages stand in the order in which they were written"
    assert len(expected) > 100 * kills
    down = [entry for entry in daemon.log if entry["event"] == "nats-server is down"]
    assert [entry["reason"] for entry in down] == ["nats-server was ended by signal 9"] * kills


async def test_messages_survive_two_kills(start_daemon: StartDaemon) -> None:
    await every_message_survives(await start_daemon(), 2)


@pytest.mark.faults
@pytest.mark.timeout(240)
async def test_messages_survive_ten_kills(start_daemon: StartDaemon) -> None:
    await every_message_survives(await start_daemon(), KILLS)


@pytest.mark.parametrize("history", ["shared", "since-join"])
async def test_who_is_added_under_load_misses_nothing_and_gets_nothing_twice(
    start_daemon: StartDaemon, history: History
) -> None:
    """Added, removed and added again, while two others write as fast as they may."""
    daemon = await start_daemon()
    place, enough = Place(daemon.url, daemon.data_dir), asyncio.Event()
    await place.found("bob", "cyd")
    async with asyncio.timeout(60), place.enter("ada") as ada, place.enter("bob") as bob, place.enter("cyd") as cyd:
        room = await ada.create_room("ops", history)
        await room.add("bob")
        theirs = await bob.room("ops")
        writing = [asyncio.create_task(write(room, "ada", enough)), asyncio.create_task(write(theirs, "bob", enough))]
        async with tail(room) as at_ada:
            await at_ada.until(200)
            await room.add("cyd", "reader")
            added = len(at_ada.got)
            async with tail(await cyd.room("ops")) as at_cyd:
                await at_ada.until(added + 500)
                enough.set()
                written = [await task for task in writing]
                assert await all_of(at_ada, sum(map(len, written))) == sorted(chain.from_iterable(written))
                read = await read_to_the_end(at_cyd, written)
                assert at_cyd.refused == []
        assert read == sorted(read)
        for own in written:
            part = [one for one in read if one in own]
            # Each writer changes to the new key when they hear of it: what they sealed before is for those before.
            assert part == (own if history == "shared" else own[-len(part) :])
        assert history == "shared" or 0 < sum(map(len, written)) - len(read) <= added + AHEAD * 2


async def read_to_the_end(reading: Tail, written: Sequence[Written]) -> Written:
    """All that a reader gets, up to the last message of each writer."""
    while not {own[-1] for own in written} <= set(read := as_read(reading.got)):
        await reading.until(len(read) + 1)
    return read
