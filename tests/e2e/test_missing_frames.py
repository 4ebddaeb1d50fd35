"""What a lying server does to the frames that it stores: left out, put in another place, moved; each by its name.

And what an honest one does, where nothing may be named. What a server would do is done to its stream.
"""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.people import WAIT, Place, Tail, tail
from unibus import Bus, Room
from unibus.client.messages import Position
from unibus.client.outbox import read_ack
from unibus.client.sealer import Sealer
from unibus.crypto.frames import read_envelope
from unibus.daemon.node import Node
from unibus.errors import FrameInvalid, FrameMissing, FrameReordered, FrameReplayed, UnibusError
from unibus.model.subjects import STREAM, room_messages

Named = list[tuple[int, type[UnibusError]]]


@dataclass
class Lie:
    """A room of ada and bob on a bus that a test has in its hands."""

    node: Node
    place: Place
    ada: Bus
    bob: Bus
    room: Room

    async def delete(self, position: Position) -> None:
        """Take a frame out of the stream."""
        core = await self.node.bus.core_dial()
        try:
            asked = json.dumps({"seq": position.sequence}).encode()
            answer = json.loads((await core.request(f"$JS.API.STREAM.MSG.DELETE.{STREAM}", asked)).data)
            assert answer["success"]
        finally:
            await core.close()

    async def seal(self, *unsettled: int) -> list[bytes]:
        """As many frames of one session, which nobody has sent; m0, m1 and so on."""
        seal = await Sealer(self.ada, self.room).ready(False)
        return [seal([f"m{number}".encode()], unsettled=open_) for number, open_ in enumerate(unsettled)]

    async def store(self, frame: bytes, by: Bus | None = None, room: Room | None = None) -> int:
        """Put a frame into a room as published by ada or another; its number."""
        by, room = by or self.ada, room or self.room
        await by.room(room.id)  # without which it would have no right to write there
        connection = await by.link.connection(room.id)
        headers = {"Nats-Msg-Id": secrets.token_urlsafe(16)}
        answer = await connection.nats.request(room_messages(room.id, by.user), frame, timeout=5, headers=headers)
        sequence = read_ack(answer.data, answer.headers)
        assert isinstance(sequence, int)
        return sequence

    async def bob_reads(self, texts: list[str], named: Named, room: str = "ops") -> None:
        """Assert that bob gets exactly these messages, and hears exactly of these frames."""
        end = "the end"
        await (await self.ada.room(room)).send(end)
        async with tail(await self.bob.room(room)) as reading:
            assert await reading.until(len(texts) + 1) == [*texts, end]
        assert names(reading) == named
        assert {refusal.sender for refusal in reading.refused} <= {self.ada.user, self.bob.user}


def names(reading: Tail) -> Named:
    return [(refusal.sequence, type(refusal.error)) for refusal in reading.refused]


@pytest.fixture
async def lie(node: tuple[Node, Place]) -> AsyncIterator[Lie]:
    running, place = node
    await place.found("bob", "cyd")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(WAIT))
        ada, bob = [await stack.enter_async_context(place.enter(name)) for name in ("ada", "bob")]
        room = await ada.create_room("ops")
        await room.add("bob")
        yield Lie(running, place, ada, bob, room)


@pytest.mark.parametrize(("gone", "found_at"), [({0}, 1), ({1}, 2), ({1, 2}, 3), ({0, 1, 2, 3}, 4)], ids=str)
async def test_a_frame_that_is_left_out_is_missing(lie: Lie, gone: set[int], found_at: int) -> None:
    sent = [await lie.room.send(f"m{number}") for number in range(5)]
    for number in gone:
        await lie.delete(sent[number])
    left = [f"m{number}" for number in range(5) if number not in gone]
    await lie.bob_reads(left, [(sent[found_at].sequence, FrameMissing)])


async def test_a_reader_who_is_there_notices_it_too(lie: Lie) -> None:
    async with tail(await lie.bob.room("ops"), "now") as reading:
        while not reading.got:  # when a delivery has begun only its first message tells
            await lie.room.send("are you there?")
        frames = await lie.seal(0, 0, 0, 0)
        await lie.store(frames[0])
        number = await lie.store(frames[2])
        await lie.store(frames[3])
        while reading.texts[-1] != "m3":
            await reading.until(len(reading.got) + 1)
    assert names(reading) == [(number, FrameMissing)]


async def test_what_is_left_out_between_two_runs_is_missing(lie: Lie, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    await lie.room.send("m0")
    async with lie.place.enter("bob", state) as bob, tail(await bob.room("ops")) as first:
        await first.until(1)
    lost, kept = [await lie.room.send(text) for text in ("m1", "m2")]
    await lie.delete(lost)
    async with (
        lie.place.enter("bob", state) as bob,
        tail(await bob.room("ops"), first.positions[-1]) as second,
    ):
        assert await second.until(1) == ["m2"]
    assert names(second) == [(kept.sequence, FrameMissing)]


async def test_frames_in_another_order_are_refused(lie: Lie) -> None:
    frames = await lie.seal(0, 0, 0)
    last, first, middle = [await lie.store(frames[place]) for place in (2, 0, 1)]
    await lie.bob_reads(["m2"], [(last, FrameMissing), (first, FrameReordered), (middle, FrameReordered)])


async def test_frames_that_were_on_their_way_together_are_refused_in_another_order_too(lie: Lie) -> None:
    frames = await lie.seal(0, 1, 2)
    last, first, middle = [await lie.store(frames[place]) for place in (2, 0, 1)]
    await lie.bob_reads(["m2"], [(first, FrameReordered), (middle, FrameReordered)])
    assert last < first


async def test_what_its_sender_knows_to_be_stored_is_missing_and_not_before(lie: Lie) -> None:
    frames = await lie.seal(0, 1, 1, 2, 0)
    for place in (0, 2, 3):
        await lie.store(frames[place])
    await lie.bob_reads(["m0", "m2", "m3"], [])
    number = await lie.store(frames[4])
    await lie.bob_reads(["m0", "m2", "m3", "the end", "m4"], [(number, FrameMissing)])


async def test_a_frame_that_is_shown_again_is_refused(lie: Lie) -> None:
    (frame,) = await lie.seal(0)
    await lie.store(frame)
    again = await lie.store(frame)
    await lie.bob_reads(["m0"], [(again, FrameReplayed)])


@pytest.mark.parametrize("other_first", [False, True])
async def test_a_frame_and_what_was_sealed_instead_of_it_are_never_both_believed(
    lie: Lie, tmp_path: Path, *, other_first: bool
) -> None:
    """As from a sender who was told that the first was never stored."""
    seal = await Sealer(lie.ada, lie.room).ready(False)
    pay = seal([b"pay 100"])
    envelope = read_envelope(pay)
    again = seal([b"pay 100"], instead=(envelope.session, envelope.counter))
    one, two = (again, pay) if other_first else (pay, again)
    state = tmp_path / "state.json"
    await lie.store(one)
    async with lie.place.enter("bob", state) as bob, tail(await bob.room("ops")) as first:
        assert await first.until(1) == ["pay 100"]
    refused = await lie.store(two)
    await lie.bob_reads(["pay 100"], [(refused, FrameReplayed)])
    async with lie.place.enter("bob", state) as bob, tail(await bob.room("ops"), first.positions[0]) as second:
        assert await second.until(1) == ["the end"]
    assert names(second) == [(refused, FrameReplayed)]


async def test_a_frame_that_is_moved_to_another_room_is_refused(lie: Lie) -> None:
    plans = await lie.ada.create_room("plans")
    await plans.add("bob")
    (frame,) = await lie.seal(0)
    moved = await lie.store(frame, room=plans)
    await lie.bob_reads([], [(moved, FrameInvalid)], "plans")


async def test_a_frame_that_is_moved_to_another_sender_is_refused(lie: Lie) -> None:
    frames = await lie.seal(0, 0, 0)
    await lie.store(frames[0])
    moved = await lie.store(frames[1], by=lie.bob)
    after = await lie.store(frames[2])
    await lie.bob_reads(["m0", "m2"], [(moved, FrameInvalid), (after, FrameMissing)])


async def test_what_the_room_no_longer_keeps_is_not_missing(lie: Lie, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    sent = [await lie.room.send(f"m{number} {'.' * 20_000}") for number in range(3)]
    async with lie.place.enter("bob", state) as bob, tail(await bob.room("ops")) as first:
        await first.until(3)
    for number in range(3, 10):
        await lie.room.send(f"m{number} {'.' * 20_000}")
    await lie.room.retain(seconds=None, size=2**16)
    await lie.room.retain(seconds=None, size=None)
    for since in ("start", sent[2]):
        async with lie.place.enter("bob", state) as bob, tail(await bob.room("ops"), since) as second:
            assert [text[:2] for text in await second.until(3)] == ["m7", "m8", "m9"]
        assert names(second) == []


async def test_who_joins_later_misses_nothing_of_what_they_may_read(lie: Lie) -> None:
    room = await lie.ada.create_room("later", "since-join")
    for number in range(3):
        await room.send(f"m{number}")
    await room.add("bob")
    await room.send("m3")
    await lie.bob_reads(["m3"], [], "later")


async def test_who_begins_in_the_middle_misses_nothing(lie: Lie) -> None:
    sent = [await lie.room.send(f"m{number}") for number in range(4)]
    for number, position in enumerate(sent[:-1]):
        async with tail(await lie.bob.room("ops"), position) as reading:
            assert await reading.until(3 - number) == [f"m{later}" for later in range(number + 1, 4)]
        assert names(reading) == []


async def test_two_programs_of_one_sender_do_not_disturb_each_other(lie: Lie) -> None:
    async with lie.place.enter("ada") as other:
        theirs = await other.room("ops")
        for number in range(4):
            await asyncio.gather(lie.room.send(f"one {number}"), theirs.send(f"two {number}"))
    async with tail(await lie.bob.room("ops")) as reading:
        assert len(await reading.until(8)) == 8
    assert names(reading) == []
