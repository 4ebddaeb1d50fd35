"""Deliveries: who gets one, from where it begins, and that a slow reader loses nothing."""

import asyncio
import secrets

import pytest

from tests.bus.stage import OTHER_ROOM, ROOM, Connection, Stage, eventually
from unibus.bus.deliveries import MOST_AT_ONCE
from unibus.bus.delivery_book import MOST_PER_USER
from unibus.errors import BusUnavailable
from unibus.model.subjects import STREAM


def _code(answer: dict[str, object]) -> object:
    error = answer["error"]
    assert isinstance(error, dict)
    return error["code"]


async def test_a_delivery_begins_after_the_sequence_asked_for(stage: Stage) -> None:
    async with stage.connect(stage.member(ROOM)) as a:
        for body in (b"one", b"two", b"three"):
            await a.publish(data=body)
        reading = await a.read(after=1)
        assert reading.answer == {"after": 1}
        assert await reading.bodies(2) == [b"two", b"three"]


async def test_a_delivery_from_now_says_where_now_is(stage: Stage) -> None:
    async with stage.connect(stage.member(ROOM)) as a:
        await a.publish(data=b"before")
        reading = await a.read(after=None)
        assert reading.answer == {"after": 1}
        await a.publish(data=b"later")
        assert await reading.bodies(1) == [b"later"]


async def test_a_sequence_beyond_the_end_becomes_the_end(stage: Stage) -> None:
    """A server that was set back must not make its readers wait in silence for a number they saw before."""
    async with stage.connect(stage.member(ROOM)) as a:
        await a.publish(data=b"before")
        reading = await a.read(after=1_000_000)
        assert reading.answer == {"after": 1}
        await a.publish(data=b"later")
        assert await reading.bodies(1) == [b"later"]


async def test_a_delivery_carries_one_room_only(stage: Stage) -> None:
    async with stage.connect(stage.member(ROOM, OTHER_ROOM)) as a:
        reading = await a.read(ROOM)
        await a.publish(OTHER_ROOM, b"elsewhere")
        await a.publish(ROOM, b"here")
        assert await reading.bodies(1) == [b"here"]


async def test_a_reader_without_write_gets_a_delivery(stage: Stage) -> None:
    alice, reader = stage.member(ROOM), stage.member()
    stage.policy.readers[reader.user] = {ROOM}
    async with stage.connect(alice) as a, stage.connect(reader) as r:
        reading = await r.read()
        await a.publish(data=b"for all")
        assert await reading.bodies(1) == [b"for all"]


async def test_a_foreign_room_is_refused_and_never_delivered(stage: Stage) -> None:
    alice, mallory = stage.member(ROOM), stage.member(OTHER_ROOM)
    async with stage.connect(alice) as a, stage.connect(mallory) as m:
        reading = await m.read(ROOM)
        assert _code(reading.answer) == "not-found"
        await a.publish()
        own = await m.read(OTHER_ROOM)
        await m.publish(OTHER_ROOM, b"own")
        await own.next()
        assert reading.waiting == 0


TOKEN = "t" * 22


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"not JSON",
        b"[]",
        b"{}",
        b"{" * 10_000,
        {"room": ROOM},
        {"room": ROOM, "token": "short", "after": 0},
        {"room": ROOM, "token": "t" * 44, "after": 0},
        {"room": ROOM, "token": "t" * 21 + ".", "after": 0},
        {"room": ROOM, "token": "t" * 21 + "*", "after": 0},
        {"room": "*", "token": TOKEN, "after": 0},
        {"room": ">", "token": TOKEN, "after": 0},
        {"room": f"{ROOM}.msg", "token": TOKEN, "after": 0},
        {"room": ROOM, "token": TOKEN, "after": -1},
        {"room": ROOM, "token": TOKEN, "after": 2**53},
        {"room": ROOM, "token": TOKEN, "after": "1"},
        {"room": ROOM, "token": TOKEN, "after": True},
        {"room": ROOM, "token": TOKEN, "after": 0, "deliver_subject": "ev.x"},
        {"room": None, "token": TOKEN, "after": 0},
    ],
    ids=lambda request: str(request)[:60],
)
async def test_a_malformed_request_is_refused_by_name(stage: Stage, request_: object) -> None:
    async with stage.connect(stage.member(ROOM)) as a:
        assert _code(await a.ask(request_)) == "invalid-input"


async def test_one_user_cannot_take_all_deliveries(stage: Stage) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM)
    async with stage.connect(alice) as a, stage.connect(bob) as b:
        for _ in range(MOST_PER_USER // 50):
            answers = await asyncio.gather(*(_open(a) for _ in range(50)))
            assert all(answer == {"after": 0} for answer in answers)
        assert _code(await _open(a)) == "limit-reached"
        assert await _open(b) == {"after": 0}
        assert stage.plane.status()["deliveries"] == MOST_PER_USER + 1
        await stage.plane.withdraw(alice.user, ROOM)
        assert stage.plane.status()["deliveries"] == 1


async def test_who_asks_when_too_many_do_is_told_to_ask_again(stage: Stage) -> None:
    """After an outage all readers ask at once; those who come too late must not take it for the end."""
    async with stage.connect(stage.member(ROOM)) as a, stage.connect(stage.member(ROOM)) as b:
        while not stage.policy.asked.empty():
            stage.policy.asked.get_nowait()
        stage.policy.gate.clear()
        asking = [asyncio.create_task(_open(a)) for _ in range(MOST_AT_ONCE)]
        for _ in asking:
            await stage.policy.asked.get()
        assert _code(await _open(b)) == BusUnavailable.code
        stage.policy.gate.set()
        assert await asyncio.gather(*asking) == [{"after": 0}] * MOST_AT_ONCE
        assert await _open(b) == {"after": 0}


async def _open(connection: Connection) -> dict[str, object]:
    return await connection.ask({"room": ROOM, "token": secrets.token_urlsafe(16), "after": 0})


async def test_a_slow_reader_gets_everything_in_order(stage: Stage) -> None:
    """Far more than a server keeps for a slow connection: flow control over the account border holds it back."""
    count, at_once = 10_000, 500
    async with stage.connect(stage.member(ROOM)) as a, stage.connect(stage.member(ROOM)) as b:
        # Acknowledged before it is read: nats-server delivers nothing from a stream while it has frames to store.
        for first in range(0, count, at_once):
            bodies = [b"%06d" % number + b"x" * 1018 for number in range(first, first + at_once)]
            await asyncio.gather(*(b.publish(data=body) for body in bodies))
        reading = await a.read()
        for number in range(count):
            frame = await reading.next()
            assert frame.data[:6] == b"%06d" % number
            assert frame.reply.split(".")[5] == str(number + 1)
        assert reading.flow_answers > 0


async def test_an_ended_delivery_is_forgotten(stage: Stage) -> None:
    alice = stage.member(ROOM)
    async with stage.connect(alice) as a:
        await a.read()
        assert stage.plane.status()["deliveries"] == 1
        await stage.plane.withdraw(alice.user, ROOM)
        await eventually(lambda: stage.plane.status()["deliveries"] == 0)


async def test_a_delivery_that_is_falsely_said_to_have_ended_does_end(stage: Stage) -> None:
    """Late news of one before it, under the same token: no delivery may go on that a revocation would not find."""
    async with stage.connect(stage.member(ROOM)) as a:
        reading = await a.read()
        daemon = await stage.plane.core_dial()
        await daemon.publish(f"$JS.EVENT.ADVISORY.CONSUMER.DELETED.{STREAM}.{reading.token}", b"{}")
        await daemon.flush()
        await daemon.close()
        await eventually(lambda: stage.plane.status()["deliveries"] == 0)
        async with stage.connect(stage.member(ROOM)) as b:
            await b.publish(data=b"too late")
            assert await (await b.read()).bodies(1) == [b"too late"]
        assert reading.waiting == 0


async def test_nothing_is_remembered_of_deliveries_that_were_ended(stage: Stage) -> None:
    """Or whoever asks for some, and leaves the room, again and again, fills the daemon's memory."""
    reader = stage.member()
    stage.policy.readers[reader.user] = {ROOM}
    life = stage.plane._life  # noqa: SLF001 - what this bounds is not to be seen from outside
    assert life is not None
    deliveries = life.deliveries
    async with stage.connect(reader) as r:
        for _ in range(5):
            await r.read()
        await stage.plane.withdraw(reader.user, ROOM)
        await r.closed.wait()
    assert deliveries is not None
    assert [name for name, kept in vars(deliveries).items() if isinstance(kept, set | dict) and kept] == []
