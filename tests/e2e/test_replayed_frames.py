"""An old frame shown again under a new number, by a server that has kept it, to a client that was started again since.

What the server would do is done to it: the very same frame is stored once more, under another message id.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.people import WAIT, Place, Tail, tail
from unibus import Bus, Room
from unibus.client.messages import Position
from unibus.client.outbox import read_ack
from unibus.client.room import Since
from unibus.client.sealer import Sealer
from unibus.errors import FrameReplayed
from unibus.model.subjects import room_messages


@dataclass
class Stored:
    """Puts frames of ada's into the room as they are, as often as a test wants."""

    ada: Bus
    room: Room

    async def seal(self, text: str) -> bytes:
        """A frame with one message, that nobody has sent yet. Each call is a session of its own."""
        return (await Sealer(self.ada, self.room).ready(False))([text.encode()])

    async def store(self, frame: bytes) -> int:
        """Its number in the stream."""
        connection = await self.ada.link.connection(self.room.id)
        subject = room_messages(self.room.id, self.ada.user)
        headers = {"Nats-Msg-Id": secrets.token_urlsafe(16)}
        answer = await connection.nats.request(subject, frame, timeout=5, headers=headers)
        sequence = read_ack(answer.data, answer.headers)
        assert isinstance(sequence, int)
        return sequence


@pytest.fixture
async def stored(node: tuple[object, Place]) -> AsyncIterator[tuple[Place, Stored]]:
    """A room of ada and bob."""
    _, place = node
    await place.found("bob", "cyd")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(WAIT))
        ada = await stack.enter_async_context(place.enter("ada"))
        room = await ada.create_room("ops")
        await room.add("bob")
        yield place, Stored(ada, room)


@asynccontextmanager
async def run_of_bob(place: Place, state: Path | None, since: Since) -> AsyncIterator[tuple[Bus, Tail]]:
    """Bob's program, from its start to its end."""
    async with place.enter("bob", state) as bob, tail(await bob.room("ops"), since) as reading:
        yield bob, reading


async def test_an_old_frame_is_not_new_to_a_client_that_was_started_again(
    stored: tuple[Place, Stored], tmp_path: Path
) -> None:
    place, ada = stored
    state = tmp_path / "state.json"
    pay = await ada.seal("pay mallory 100")
    number = await ada.store(pay)
    async with run_of_bob(place, state, "start") as (_, first):
        assert await first.until(1) == ["pay mallory 100"]
    shown_again = await ada.store(pay)
    await ada.room.send("good morning")
    async with run_of_bob(place, state, Position(number, 0)) as (_, second):
        assert await second.until(1) == ["good morning"]
    (refusal,) = second.refused
    assert (type(refusal.error), refusal.sequence) == (FrameReplayed, shown_again)
    async with run_of_bob(place, state, "start") as (_, history):  # what was read may be read again, once
        assert await history.until(2) == ["pay mallory 100", "good morning"]
    assert [refusal.sequence for refusal in history.refused] == [shown_again]


async def test_nor_to_one_that_asks_for_what_is_new(stored: tuple[Place, Stored], tmp_path: Path) -> None:
    place, ada = stored
    state = tmp_path / "state.json"
    pay = await ada.seal("pay mallory 100")
    await ada.store(pay)
    async with run_of_bob(place, state, "start") as (_, first):
        await first.until(1)
    async with run_of_bob(place, state, "now") as (_, second):
        while not second.got:  # when a delivery has begun only its first message tells
            await ada.store(pay)
            await ada.room.send("good morning")
        assert set(second.texts) == {"good morning"}
    assert {type(refusal.error) for refusal in second.refused} <= {FrameReplayed}
