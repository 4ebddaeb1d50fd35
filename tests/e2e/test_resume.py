"""Reading on from where one was: between frames, inside one, in another process's place; each message once."""

import asyncio
from pathlib import Path

import pytest

from tests.support.people import WAIT, Place, tail
from unibus.client.messages import Position, parse_position


@pytest.fixture
async def talk(node: tuple[object, Place]) -> tuple[Place, list[Position]]:
    """A room of ada and bob with six messages, three of them in one frame; and where those are."""
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        room = await ada.create_room("ops")
        await room.add("bob")
        positions = [await room.send("0"), await room.send("1")]
        posted = [room.post(str(number)) for number in (2, 3, 4)]
        positions += [await sent for sent in posted]
        positions.append(await room.send("5"))
    return place, positions


async def test_messages_of_one_moment_share_a_frame(talk: tuple[Place, list[Position]]) -> None:
    _, positions = talk
    assert positions == [Position(1, 0), Position(2, 0), *(Position(3, offset) for offset in range(3)), Position(4, 0)]


@pytest.mark.parametrize("read", range(6))
async def test_reading_goes_on_after_any_message(talk: tuple[Place, list[Position]], read: int) -> None:
    place, positions = talk
    async with asyncio.timeout(WAIT), place.enter("bob") as bob:
        async with tail(await bob.room("ops")) as first:
            assert (await first.until(read + 1))[: read + 1] == [str(number) for number in range(read + 1)]
            last = first.positions[read]
        assert last == positions[read]
    async with asyncio.timeout(WAIT), place.enter("bob") as bob, place.enter("ada") as ada:
        async with tail(await bob.room("ops"), parse_position(str(last))) as second:
            await (await ada.room("ops")).send("6")
            assert await second.until(6 - read) == [str(number) for number in range(read + 1, 7)]
        assert second.refused == []


async def test_now_begins_after_all_that_was_said(talk: tuple[Place, list[Position]]) -> None:
    place, _ = talk
    async with asyncio.timeout(WAIT), place.enter("bob") as bob, place.enter("ada") as ada:
        room, hers = await ada.room("ops"), await bob.room("ops")
        async with tail(hers, "now") as reading, tail(hers) as all_of_it:
            await all_of_it.until(6)
            while not reading.got:  # when a delivery has begun only its first message tells
                await room.send("6")
                await asyncio.sleep(0)
            assert set(reading.texts) == {"6"}


async def test_a_position_beyond_the_end_skips_nothing(talk: tuple[Place, list[Position]]) -> None:
    place, _ = talk
    async with asyncio.timeout(WAIT), place.enter("bob") as bob, place.enter("ada") as ada:
        room, beyond = await ada.room("ops"), Position(4, 999)
        async with tail(await bob.room("ops"), beyond) as reading:
            await room.send("6")
            assert await reading.until(1) == ["6"]


async def test_two_readers_in_one_client_do_not_share_what_they_read(talk: tuple[Place, list[Position]]) -> None:
    place, _ = talk
    async with asyncio.timeout(WAIT), place.enter("bob") as bob:
        room = await bob.room("ops")
        async with tail(room) as one, tail(room) as two:
            assert await one.until(6) == await two.until(6) == list("012345")


async def test_a_reader_that_stops_leaves_no_delivery_behind_on_its_connection(
    talk: tuple[Place, list[Position]],
) -> None:
    place, _ = talk
    async with asyncio.timeout(WAIT), place.enter("bob") as bob:
        room = await bob.room("ops")
        connection = await bob.link.connection()
        for _ in range(20):
            async with tail(room) as reading:
                await reading.until(6)
        assert len(connection.nats._subs) <= 3  # noqa: SLF001 - only the client itself knows what it is subscribed to


async def test_a_client_with_a_state_file_comes_back_to_the_same_bus(
    talk: tuple[Place, list[Position]], tmp_path: Path
) -> None:
    place, _ = talk
    state = tmp_path / "state.json"
    seen = []
    for _ in range(2):
        async with asyncio.timeout(WAIT), place.enter("bob", state) as bob:
            seen.append((bob.id, (await bob.room("ops")).state.head))
    assert seen[0] == seen[1]
