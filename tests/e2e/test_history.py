"""What a late joiner sees under either policy, and what a revocation from the bus ends."""

import asyncio
from pathlib import Path

import pytest

from tests.builders import identity, user
from tests.e2e.conftest import StartDaemon
from tests.support.people import WAIT, Place, tail
from tests.support.processes import kill_nats_server
from unibus.errors import NotAUser
from unibus.model.bodies import History


@pytest.mark.parametrize(
    ("history", "seen"),
    [("shared", ["one", "two", "three", "four"]), ("since-join", ["three", "four"])],
)
async def test_a_late_joiner_sees_what_the_policy_says(place: Place, history: History, seen: list[str]) -> None:
    await place.found("bob", "cyd")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob, place.enter("cyd") as cyd:
        room = await ada.create_room("ops", history)
        await room.add("cyd")
        await room.send("one")
        await room.rotate()
        await (await cyd.room("ops")).send("two")
        await room.add("bob")
        async with tail(await bob.room("ops")) as at_bob, tail(await cyd.room("ops")) as at_cyd:
            await room.send("three")
            assert await at_cyd.until(3) == ["one", "two", "three"]
            await room.remove("cyd")
            await room.send("four")
            assert await at_bob.until(len(seen)) == seen
            assert at_cyd.texts == ["one", "two", "three"]
        assert at_bob.refused == []


async def test_who_comes_back_into_a_shared_room_reads_what_was_said_meanwhile(node: tuple[object, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        await room.remove("bob")
        await room.send("meanwhile")
        await room.add("bob")
        async with tail(await bob.room("ops")) as at_bob:
            assert await at_bob.until(1) == ["meanwhile"]


async def test_who_comes_back_into_a_since_join_room_does_not(node: tuple[object, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops", "since-join")
        await room.add("bob")
        await room.send("before")
        await room.remove("bob")
        await room.send("meanwhile")
        await room.add("bob")
        await room.send("after")
        async with tail(await bob.room("ops")) as at_bob:
            assert await at_bob.until(2) == ["before", "after"]


async def test_a_revocation_ends_everything_and_every_room_changes_its_key_first(place: Place) -> None:
    await place.found("bob", "cyd")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob, place.enter("cyd") as cyd:
        rooms = [await ada.create_room(name) for name in ("ops", "plans")]
        for room in rooms:
            await room.add("bob")
            await room.add("cyd")
        at_cyd = [await cyd.room(name) for name in ("ops", "plans")]
        at_bob = [await bob.room(name) for name in ("ops", "plans")]
        async with tail(at_cyd[0]) as one, tail(at_cyd[1]) as two, tail(at_bob[0]) as bobs:
            await rooms[0].send("all three")
            assert await one.until(1) == await bobs.until(1) == ["all three"]
            live = await cyd.link.connection()
            await ada.revoke("cyd")
            await asyncio.wait_for(live.gone.wait(), 5)
            assert isinstance(await one.end(), NotAUser)
            assert isinstance(await two.end(), NotAUser)
            with pytest.raises(NotAUser):
                await at_cyd[0].send("still here")
            with pytest.raises(NotAUser):
                await cyd.link.connection()
            with pytest.raises(NotAUser):
                await cyd.users()
            # Whoever speaks first changes the key, also where nobody who may remove is there.
            await rooms[0].send("two of us")
            await at_bob[1].send("here too")
            assert await bobs.until(2) == ["all three", "two of us"]
        for room in (await ada.room("ops"), await ada.room("plans")):
            assert room.state.epoch.number == 2
            assert user("cyd") not in room.state.holders()
            assert room.members == {"ada": "owner", "bob": "member"}
        assert bobs.refused == []
    with pytest.raises(NotAUser):
        async with place.enter("cyd"):
            pytest.fail("a revoked user came in")


async def test_an_identity_that_was_revoked_stays_so_and_its_handle_is_free(node: tuple[object, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        await ada.revoke("bob")
        await ada.admit("bob", identity("robert").card())
        assert [(found.handle, found.user) for found in await ada.users()] == [
            ("ada", user("ada")),
            ("bob", user("robert")),
        ]


async def test_reading_what_is_stored_ends_though_others_write_on(node: tuple[object, Place]) -> None:
    _, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        stored = [await room.send(str(number)) for number in range(100)]

        async def write_on() -> None:
            while True:
                await room.send("more")

        writing = asyncio.create_task(write_on())
        try:
            theirs = await bob.room("ops")
            got = [message async for message in theirs.messages("start", follow=False)]
            assert [message.position for message in got[:100]] == stored
            assert {message.text for message in got[100:]} <= {"more"}
        finally:
            writing.cancel()
            await asyncio.wait([writing])
        rest = [message async for message in theirs.messages(got[-1].position, follow=False)]
        assert {message.text for message in rest} == {"more"}
        assert [message async for message in theirs.messages(rest[-1].position, follow=False)] == []


async def test_reading_what_is_stored_ends_in_an_empty_room(node: tuple[object, Place]) -> None:
    _, place = node
    await place.found()
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        room = await ada.create_room("ops")
        assert [message async for message in room.messages("start", follow=False)] == []
        await room.send("one")
        assert [message async for message in room.messages("now", follow=False)] == []
        assert [message.text async for message in room.messages("start", follow=False)] == ["one"]


async def test_reading_what_is_stored_goes_on_over_a_new_connection_and_then_ends(
    start_daemon: StartDaemon, data_dir: Path
) -> None:
    daemon = await start_daemon()
    place = Place(daemon.url, data_dir)
    await place.found()
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        room = await ada.create_room("ops")
        texts = [f"{number} {'x' * 200_000}" for number in range(60)]  # more than is on its way at once
        for text in texts:
            await room.send(text)
        got: list[str] = []
        async for message in room.messages("start", follow=False):
            if not got:
                kill_nats_server(data_dir)
            got.append(message.text)
        assert got == texts
