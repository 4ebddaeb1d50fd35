"""Signals that do not hold, put on the bus by a server that lets anybody publish anything: each is refused, by name."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from tests.builders import identity, user
from tests.bus.stage import Connection, Member
from tests.e2e.conftest import StartNode
from tests.e2e.test_signals import Ear, answering, hearing
from tests.support.people import WAIT, Place, tail
from unibus import Bus, Room
from unibus.client.signal_rules import ANSWER, FRESH_SECONDS, ID_BYTES, MAX_FRAME, MAX_SIGNAL, QUESTION
from unibus.client.signals import WAITING
from unibus.crypto.frames import MESSAGES, Content, Purpose, open_frame, read_envelope, seal_frame, signal_purpose
from unibus.errors import FrameInvalid, FrameReplayed, LogRolledBack, OldEpoch, SignalStale
from unibus.model.subjects import ALL, room_messages, room_signals


@dataclass
class Scene:
    """Ada, Bob and Cyd in a room; `wire` is the lying server's hand: it may publish and hear everything."""

    place: Place
    ada: Bus
    bob: Bus
    plans: Room
    bobs: Room
    wire: Connection

    async def sealed(
        self,
        *parts: bytes,
        by: str = "cyd",
        purpose: Purpose | None = None,
        ago: float = 0.0,
        session: bytes | None = None,
        room: Room | None = None,
    ) -> bytes:
        """A frame as the member `by` would seal it, but for what is given. It knows what Ada knows."""
        room = room or self.plans
        state = room.state
        key = await self.ada.keyring.key(state, state.epoch.number)
        content = Content(int((time.time() - ago) * 1000), state.head, self.ada.directory.head, parts)
        ref = state.epoch_ref(state.epoch.number)
        session = session or secrets.token_bytes(16)
        return seal_frame(identity(by).signing, key, ref, session, 0, content, purpose or signal_purpose(ALL))

    async def put(self, frame: bytes, *, by: str = "cyd", to: str = ALL) -> None:
        """Publish `frame` as a signal of `by`."""
        await self.wire.client.publish(room_signals(self.plans.id, user(by), to), frame)

    async def overhear(self, subject: str) -> "asyncio.Queue[Msg]":
        """What goes over `subject` from now on."""
        heard: asyncio.Queue[Msg] = asyncio.Queue()

        async def take(message: Msg) -> None:
            heard.put_nowait(message)

        await self.wire.client.subscribe(subject, cb=take)
        await self.wire.client.flush()
        await self.wire.client.flush()
        return heard


@pytest.fixture
async def scene(start_node: StartNode, data_dir: Path) -> AsyncIterator[Scene]:
    """A room on a bus whose server checks nothing."""
    node = await start_node("off")
    place = Place(f"http://127.0.0.1:{node.http_port}", data_dir)
    await place.found("bob", "cyd")
    async with AsyncExitStack() as ending, asyncio.timeout(WAIT):
        ada = await ending.enter_async_context(place.enter("ada"))
        bob = await ending.enter_async_context(place.enter("bob"))
        plans = await ada.create_room("plans")
        for name in ("bob", "cyd"):
            await plans.add(name)
        wire = Connection(Member(identity("eve").signing))
        await wire.open((await ada.api.bus_view()).nats_port, None)
        ending.push_async_callback(wire.closed.wait)
        ending.push_async_callback(wire.client.close)
        yield Scene(place, ada, bob, plans, await bob.room("plans"), wire)


@asynccontextmanager
async def heard_by_bob(scene: Scene) -> AsyncIterator[Ear]:
    """Bob's ear; whatever happened to it, an honest signal is heard at the end, and nothing else before it."""
    async with hearing(scene.bobs) as ear:
        yield ear
        await scene.plans.signal("honest")
        assert (await ear.next()).text == "honest"
        assert ear.silent


async def test_a_signal_is_heard_once(scene: Scene) -> None:
    wire = await scene.overhear(room_signals(scene.plans.id))
    async with heard_by_bob(scene) as ear:
        await scene.plans.signal("once")
        assert (await ear.next()).text == "once"
        copy = await wire.get()
        await scene.put(copy.data, by="ada")
        refusal = await ear.refusal()
        assert (type(refusal.error), refusal.sender, refusal.sequence) == (FrameReplayed, user("ada"), 0)


@pytest.mark.parametrize("ago", [FRESH_SECONDS + 1, -FRESH_SECONDS - 1], ids=["old", "ahead"])
async def test_a_signal_is_heard_in_its_time(scene: Scene, ago: float) -> None:
    async with heard_by_bob(scene) as ear:
        await scene.put(await scene.sealed(b"kept back", ago=ago))
        assert isinstance((await ear.refusal()).error, SignalStale)
        await scene.put(await scene.sealed(b"in time", ago=ago * 0.9))
        assert (await ear.next()).text == "in time"


async def test_a_message_does_not_pass_for_a_signal_nor_a_signal_for_a_message(scene: Scene) -> None:
    async with heard_by_bob(scene) as ear, tail(scene.bobs) as stored:
        await scene.put(await scene.sealed(b"a stored one", purpose=MESSAGES))
        assert isinstance((await ear.refusal()).error, FrameInvalid)
        await scene.wire.client.request(
            room_messages(scene.plans.id, user("cyd")), await scene.sealed(b"a signal"), timeout=WAIT
        )
        await scene.plans.send("a message")
        assert await stored.until(1) == ["a message"]
        assert [type(refusal.error) for refusal in stored.refused] == [FrameInvalid]


@pytest.mark.parametrize(
    ("parts", "by", "purpose"),
    [
        ((b"x",), "ada", signal_purpose(ALL)),
        ((b"x",), "cyd", signal_purpose(user("bob"))),
        ((b"x",), "cyd", signal_purpose(user("ada"))),
        ((b"x", b"y"), "cyd", signal_purpose(ALL)),
        ((b"x",), "eve", signal_purpose(ALL)),
    ],
    ids=["on another's subject", "for bob", "for ada", "two parts", "of a stranger"],
)
async def test_a_signal_is_its_senders_and_its_addressees(
    scene: Scene, parts: tuple[bytes, ...], by: str, purpose: Purpose
) -> None:
    async with heard_by_bob(scene) as ear:
        on = "eve" if by == "eve" else "cyd"
        await scene.put(await scene.sealed(*parts, by=by, purpose=purpose), by=on)
        assert isinstance((await ear.refusal()).error, FrameInvalid)


async def test_garbage_and_what_is_too_large_are_nothing(scene: Scene) -> None:
    async with heard_by_bob(scene) as ear:
        await scene.put(b'{"error":{"code":"not-found","message":""}}')
        assert isinstance((await ear.refusal()).error, FrameInvalid)
        await scene.put(bytes(MAX_FRAME + 1))
        await scene.put(await scene.sealed(bytes(MAX_SIGNAL + 1)))
        assert (await ear.refusal()).sender == user("cyd")
        await scene.put(b"short")
        assert isinstance((await ear.refusal()).error, FrameInvalid)


async def test_a_signal_of_another_room_is_not_heard_here(scene: Scene) -> None:
    other = await scene.ada.create_room("other")
    await other.add("cyd")
    async with heard_by_bob(scene) as ear:
        await scene.put(await scene.sealed(b"elsewhere", room=other))
        assert isinstance((await ear.refusal()).error, FrameInvalid)


async def test_who_was_removed_is_not_heard_whatever_they_knew(scene: Scene) -> None:
    before = await scene.sealed(b"from before")
    async with heard_by_bob(scene) as ear:
        await scene.plans.remove("cyd")
        await scene.plans.signal("cyd is gone")
        assert (await ear.next()).text == "cyd is gone"
        await scene.put(before)
        assert isinstance((await ear.refusal()).error, FrameInvalid)


async def test_the_rules_of_messages_hold_for_heads_and_epochs(scene: Scene) -> None:
    state, directory = scene.plans.state, scene.ada.directory
    key = await scene.ada.keyring.key(state, 1)
    old = state.epoch_ref(1)
    await scene.plans.rotate()

    def frame(content: Content) -> bytes:
        sealed = seal_frame(identity("cyd").signing, key, old, secrets.token_bytes(16), 0, content, signal_purpose(ALL))
        assert read_envelope(sealed).epoch == 1
        return sealed

    now = int(time.time() * 1000)
    invented = type(state.head)(state.head.sequence + 7, state.head.digest)
    async with heard_by_bob(scene) as ear:
        await scene.put(frame(Content(now, state.head, directory.head, (b"x",))))
        assert isinstance((await ear.refusal()).error, OldEpoch)
        await scene.put(frame(Content(now, invented, directory.head, (b"x",))))
        assert isinstance((await ear.refusal()).error, LogRolledBack)


async def test_an_answer_counts_from_who_was_asked_alone(scene: Scene) -> None:
    wire = await scene.overhear(room_signals(scene.plans.id, user("ada"), "*"))
    questions = scene.bobs.questions()
    async with aclosing(questions), hearing(scene.plans) as at_ada:
        heard = asyncio.ensure_future(anext(questions))
        await asyncio.sleep(0)
        await scene.bobs.listen()
        asking = asyncio.create_task(scene.plans.ask("bob", "the code?", deadline=WAIT))
        question = await wire.get()
        key = await scene.ada.keyring.key(scene.plans.state, 1)
        opened = open_frame(
            question.data,
            read_envelope(question.data),
            key,
            scene.plans.state.epoch_ref(1),
            signal_purpose(user("bob")),
        )
        kind, number, text = opened.messages
        assert (kind, text) == (QUESTION, b"the code?")
        for_ada = signal_purpose(user("ada"))
        await scene.put(await scene.sealed(ANSWER, number, b"1234", purpose=for_ada), to=user("ada"))
        refusal = await at_ada.refusal()
        assert (type(refusal.error), refusal.sender) == (FrameInvalid, user("cyd"))
        for parts in ((ANSWER, secrets.token_bytes(ID_BYTES), b"1234"), (ANSWER, number[:-1], b"1234")):
            await scene.put(await scene.sealed(*parts, by="bob", purpose=for_ada), by="bob", to=user("ada"))
        assert isinstance((await at_ada.refusal()).error, FrameInvalid)
        assert not asking.done()
        await (await heard).answer("4711")
        assert await asking == b"4711"


async def test_a_question_to_another_is_not_put_to_bob(scene: Scene) -> None:
    async with answering(scene.bobs) as asked, heard_by_bob(scene) as ear:
        parts = (QUESTION, secrets.token_bytes(ID_BYTES), b"pay 100?")
        for purpose in (signal_purpose(user("ada")), signal_purpose(ALL)):
            await scene.put(await scene.sealed(*parts, purpose=purpose), to=user("bob"))
            assert isinstance((await ear.refusal()).error, FrameInvalid)
        await scene.put(await scene.sealed(b"order", *parts[1:], purpose=signal_purpose(user("bob"))), to=user("bob"))
        assert isinstance((await ear.refusal()).error, FrameInvalid)
        assert asked == []


async def test_who_is_slow_gets_the_newest_and_knows_how_many_were_lost(scene: Scene) -> None:
    sent = WAITING + 40
    slow = scene.bobs.signals()
    async with hearing(scene.bobs) as ear:
        first = asyncio.ensure_future(anext(slow))
        await asyncio.sleep(0)
        await scene.bobs.listen()
        await scene.plans.signal("0")
        assert (await first).text == (await ear.next()).text == "0"
        for number in range(1, sent + 1):
            await scene.plans.signal(str(number))
            assert (await ear.next()).text == str(number)
        assert scene.bobs.signals_dropped == sent - WAITING
        assert (await anext(slow)).text == str(sent - WAITING + 1)
    await slow.aclose()
    assert scene.bobs.signals_dropped == sent - WAITING
