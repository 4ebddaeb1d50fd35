"""What is not stored, between members on a real bus: heard at once, by who is in the room now, and by nobody later."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.builders import user
from tests.support.people import WAIT, Place, tail
from tests.support.processes import kill_nats_server
from unibus import Room
from unibus.client.messages import Refusal
from unibus.client.questions import Question
from unibus.client.signal_rules import MAX_SIGNAL, Signal
from unibus.daemon.node import Node
from unibus.errors import Declined, Forbidden, InvalidInput, NobodyThere, NotAUser, NotFound, TooLarge, Unanswered


class Ear:
    """Hears a room's signals in the background. `refused` is what was not believed."""

    def __init__(self, room: Room) -> None:
        self.refused: asyncio.Queue[Refusal] = asyncio.Queue()
        self._heard: asyncio.Queue[Signal] = asyncio.Queue()
        self.task = asyncio.create_task(self._hear(room), name="ear")

    async def _hear(self, room: Room) -> None:
        async for signal in room.signals(on_refused=self.refused.put_nowait):
            self._heard.put_nowait(signal)

    async def next(self) -> Signal:
        async with asyncio.timeout(WAIT):
            return await self._heard.get()

    async def refusal(self) -> Refusal:
        async with asyncio.timeout(WAIT):
            return await self.refused.get()

    async def end(self) -> BaseException | None:
        """What ended the hearing by itself, once it has."""
        async with asyncio.timeout(WAIT):
            await asyncio.wait([self.task])
        return self.task.exception()

    @property
    def silent(self) -> bool:
        return self._heard.empty()


@asynccontextmanager
async def hearing(room: Room) -> AsyncIterator[Ear]:
    """An `Ear` that hears from the beginning of the block to its end."""
    ear = Ear(room)
    try:
        async with asyncio.timeout(WAIT):
            await asyncio.sleep(0)
            await room.listen()
        yield ear
    finally:
        ear.task.cancel()
        await asyncio.gather(ear.task, return_exceptions=True)


@asynccontextmanager
async def answering(room: Room, *, silent: bool = False, decline: bool = False) -> AsyncIterator[list[Question]]:
    """Answers what is asked with itself in capitals, in the background; yields what was asked."""
    asked: list[Question] = []

    async def answer() -> None:
        async for question in room.questions():
            asked.append(question)
            if decline:
                await question.decline("ask tomorrow")
            elif not silent:
                await question.answer(question.text.upper())

    task = asyncio.create_task(answer(), name="answers")
    try:
        async with asyncio.timeout(WAIT):
            await asyncio.sleep(0)
            await room.listen()
        yield asked
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_signals_reach_who_listens_and_leave_nothing_behind(place: Place) -> None:
    await place.found("bob", "rex", "eve")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob, place.enter("rex") as rex:
        plans = await ada.create_room("plans")
        await plans.add("bob")
        await plans.add("rex", "reader")
        bobs, rexs = await bob.room("plans"), await rex.room("plans")
        async with hearing(plans) as at_ada, hearing(bobs) as at_bob, hearing(rexs) as at_rex:
            await bobs.signal("typing-so-nobody-stores-it")
            for ear in (at_ada, at_rex):
                signal = await ear.next()
                assert (signal.room, signal.sender, signal.handle) == (plans.id, user("bob"), "bob")
                assert signal.text == "typing-so-nobody-stores-it"
            await plans.signal(b"\xff\x00")
            assert (await at_bob.next()).data == (await at_rex.next()).data == b"\xff\x00"
            assert at_ada.silent
            with pytest.raises(Forbidden, match="you are a reader"):
                await rexs.signal("me too")
            with pytest.raises(TooLarge):
                await plans.signal(bytes(MAX_SIGNAL + 1))
            await plans.signal(bytes(MAX_SIGNAL))
            assert len((await at_bob.next()).data) == MAX_SIGNAL
        async with tail(bobs) as stored:
            await plans.send("kept")
            assert await stored.until(1) == ["kept"]
            assert [message.position.sequence for message in stored.got] == [1]
    assert b"typing-so-nobody-stores-it" not in place.bytes_on_disk()
    assert b".sig." not in place.bytes_on_disk()


async def test_a_question_is_heard_and_answered_by_one_member(node: tuple[Node, Place]) -> None:
    _, place = node
    await place.found("bob", "cyd", "rex")
    async with (
        asyncio.timeout(WAIT),
        place.enter("ada") as ada,
        place.enter("bob") as bob,
        place.enter("cyd") as cyd,
        place.enter("rex") as rex,
    ):
        plans = await ada.create_room("plans")
        for name in ("bob", "cyd"):
            await plans.add(name)
        await plans.add("rex", "reader")
        bobs, cyds = await bob.room("plans"), await cyd.room("plans")
        async with answering(bobs) as to_bob, answering(cyds, silent=True) as to_cyd:
            answers = await asyncio.gather(*(plans.ask("bob", f"are you there {n}") for n in range(20)))
            assert answers == [b"ARE YOU THERE %d" % n for n in range(20)]
            assert {question.handle for question in to_bob} == {"ada"}
            assert to_cyd == []
            with pytest.raises(Unanswered, match=r"cyd did not answer within 0\.2 s"):
                await plans.ask("cyd", "and you?", deadline=0.2)
            assert [question.text for question in to_cyd] == ["and you?"]
            assert await cyds.ask("bob", "hi") == b"HI"
        with pytest.raises(Forbidden, match="rex may not write"):
            await plans.ask("rex", "hello?")
        with pytest.raises(InvalidInput):
            await plans.ask("ada", "hello?")
        with pytest.raises(NotFound):
            await plans.ask("zoe", "hello?")
        with pytest.raises(Forbidden):
            await (await rex.room("plans")).ask("bob", "hello?")


async def test_who_is_not_there_or_will_not_answer_is_told_apart(node: tuple[Node, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        plans = await ada.create_room("plans")
        await plans.add("bob")
        bobs = await bob.room("plans")
        with pytest.raises(NobodyThere, match="bob is not listening"):
            await plans.ask("bob", "hello?", deadline=WAIT)
        async with hearing(bobs):
            with pytest.raises(Declined, match="nobody there answers questions"):
                await plans.ask("bob", "hello?", deadline=WAIT)
        async with answering(bobs, decline=True):
            with pytest.raises(Declined, match="bob declines: ask tomorrow"):
                await plans.ask("bob", "hello?", deadline=WAIT)


async def test_being_added_needs_no_more_than_asking_for_the_room(node: tuple[Node, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        plans, party = await ada.create_room("plans"), await ada.create_room("party")
        await plans.add("bob")
        async with hearing(await bob.room("plans")) as before:
            await plans.signal("one")
            assert (await before.next()).text == "one"
            await party.add("bob", "reader")
            bobs = await bob.room("party")
            async with hearing(bobs) as after:
                await party.signal("two")
                assert (await after.next()).text == "two"
                await party.set_role("bob", "member")
                async with answering(bobs):
                    assert await party.ask("bob", "now?") == b"NOW?"
                    await party.signal("three")
                    assert (await after.next()).text == "three"
            await (await bob.room("plans")).listen()
            await plans.signal("four")
            assert (await before.next()).text == "four"


async def test_removal_ends_hearing_and_asking_at_once(node: tuple[Node, Place]) -> None:
    _, place = node
    await place.found("bob", "cyd")
    async with (
        asyncio.timeout(WAIT),
        place.enter("ada") as ada,
        place.enter("bob") as bob,
        place.enter("cyd") as cyd,
    ):
        plans = await ada.create_room("plans")
        await plans.add("bob", "reader")
        await plans.add("cyd")
        bobs, cyds = await bob.room("plans"), await cyd.room("plans")
        async with hearing(bobs) as at_bob, hearing(cyds) as at_cyd, answering(plans, silent=True):
            await plans.signal("all of you")
            assert (await at_bob.next()).text == (await at_cyd.next()).text == "all of you"
            asking = asyncio.create_task(cyds.ask("ada", "may I stay?", deadline=WAIT))
            live = await bob.link.connection()
            await plans.remove("bob")
            # The removal is answered once the connection is cut, which is seen here a moment later.
            await asyncio.wait_for(live.gone.wait(), 1.0)
            assert isinstance(await at_bob.end(), NotFound)
            await plans.signal("without bob")
            assert (await at_cyd.next()).text == "without bob"
            await plans.remove("cyd")
            with pytest.raises(NotFound):
                await asking
            assert isinstance(await at_cyd.end(), NotFound)
            with pytest.raises(NotFound):
                await cyds.signal("still here?")
        assert at_bob.silent
        await plans.add("bob")
        async with hearing(bobs) as again:
            await plans.signal("welcome back")
            assert (await again.next()).text == "welcome back"


async def test_who_becomes_a_reader_hears_on_and_says_nothing(node: tuple[Node, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        plans = await ada.create_room("plans")
        await plans.add("bob")
        bobs = await bob.room("plans")
        async with hearing(bobs) as at_bob, answering(bobs):
            assert await plans.ask("bob", "here?") == b"HERE?"
            live = await bob.link.connection()
            await plans.set_role("bob", "reader")
            await live.gone.wait()
            with pytest.raises(Forbidden):
                await bobs.signal("am I?")
            with pytest.raises(Forbidden):
                await plans.ask("bob", "here?")
            # How long the library takes to come back is its own affair: until then a signal is not for Bob.
            while at_bob.silent:
                await plans.signal("listen")
                await asyncio.sleep(0.02)
            assert (await at_bob.next()).text == "listen"
            await plans.set_role("bob", "member")
            assert (await bobs.send("I may speak again")).offset == 0
            async with hearing(plans) as at_ada:
                await bobs.signal("back")
                assert (await at_ada.next()).text == "back"


async def test_an_archived_room_carries_no_signals(node: tuple[Node, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        plans = await ada.create_room("plans")
        await plans.add("bob")
        async with hearing(await bob.room("plans")) as at_bob:
            await plans.archive()
            assert isinstance(await at_bob.end(), Forbidden)
        with pytest.raises(Forbidden, match="archived"):
            await plans.signal("anybody?")


async def test_revocation_ends_hearing_and_asking(node: tuple[Node, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        plans = await ada.create_room("plans")
        await plans.add("bob")
        bobs = await bob.room("plans")
        async with hearing(bobs) as at_bob, answering(plans, silent=True) as asked:
            asking = asyncio.create_task(bobs.ask("ada", "may I stay?", deadline=WAIT))
            async with hearing(plans) as at_ada:
                while not asked:
                    await bobs.signal("asked?")
                    await at_ada.next()
            await ada.revoke("bob")
            assert isinstance(await at_bob.end(), NotAUser)
            with pytest.raises(NotAUser):
                await asking


async def test_hearing_goes_on_after_the_bus_was_killed(node: tuple[Node, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        plans = await ada.create_room("plans")
        await plans.add("bob")
        bobs = await bob.room("plans")
        async with hearing(bobs) as at_bob, answering(bobs):
            await plans.signal("before")
            assert (await at_bob.next()).text == "before"
            lost = await bob.link.connection()
            kill_nats_server(place.data_dir)
            await lost.gone.wait()
            await bobs.listen()
            await plans.signal("after")
            assert (await at_bob.next()).text == "after"
            assert await plans.ask("bob", "still here?", deadline=WAIT) == b"STILL HERE?"
