"""Signals at the server: who may send and hear what is not stored, shown with raw clients."""

import asyncio

import pytest
from nats.aio.msg import Msg

from tests.bus.stage import OTHER_ROOM, ROOM, WAIT, Connection, Stage, login_of, shake_hands
from unibus.model import subjects


async def _listen(connection: Connection, *wanted: str) -> "asyncio.Queue[tuple[str, bytes]]":
    """What arrives on the subjects `wanted`, each of which the server has taken when this returns."""
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    async def take(message: Msg) -> None:
        heard.put_nowait((message.subject, message.data))

    for subject in wanted:
        await connection.client.subscribe(subject, cb=take)
    # nats-py's flush overtakes a subscription that waits to be written; an answered request does not.
    await connection.publish()
    return heard


async def _next(heard: "asyncio.Queue[tuple[str, bytes]]") -> tuple[str, bytes]:
    async with asyncio.timeout(WAIT):
        return await heard.get()


async def test_signals_reach_their_addressees_and_are_not_stored(stage: Stage) -> None:
    alice, bob, carol = stage.member(ROOM), stage.member(ROOM), stage.member(ROOM)
    async with stage.connect(alice) as a, stage.connect(bob) as b, stage.connect(carol) as c:
        at_bob = await _listen(b, subjects.room_signals(ROOM), subjects.room_signals(ROOM, "*", bob.user))
        at_carol = await _listen(c, subjects.room_signals(ROOM), subjects.room_signals(ROOM, "*", carol.user))
        to_all = subjects.room_signals(ROOM, alice.user)
        to_bob = subjects.room_signals(ROOM, alice.user, bob.user)
        await a.client.publish(to_bob, b"for bob")
        await a.client.publish(to_all, b"for all")
        assert [await _next(at_bob), await _next(at_bob)] == [(to_bob, b"for bob"), (to_all, b"for all")]
        assert await _next(at_carol) == (to_all, b"for all")
        assert (await a.publish())["seq"] == 3, "the two signals were stored"


async def test_nobody_signals_in_anothers_name_or_room(stage: Stage) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM, OTHER_ROOM)
    async with stage.connect(alice) as a, stage.connect(bob) as b:
        at_bob = await _listen(
            b,
            *(subjects.room_signals(room, "*", to) for room in (ROOM, OTHER_ROOM) for to in (subjects.ALL, bob.user)),
        )
        for subject in (
            subjects.room_signals(ROOM, bob.user),
            subjects.room_signals(ROOM, bob.user, alice.user),
            subjects.room_signals(OTHER_ROOM, alice.user),
            subjects.room_signals(OTHER_ROOM, alice.user, bob.user),
            f"room.{ROOM}.sig.{alice.user}",
            f"room.{ROOM}.sig.{alice.user}.all.more",
        ):
            await a.client.publish(subject, b"forged")
            assert f'publish to "{subject.lower()}"' in await a.refused()
        await a.client.publish(subjects.room_signals(ROOM, alice.user), b"own")
        assert (await _next(at_bob))[1] == b"own"


@pytest.mark.parametrize(
    "subject",
    [
        f"room.{ROOM}.sig.*.{{other}}",
        f"room.{ROOM}.sig.*.*",
        f"room.{ROOM}.sig.>",
        f"room.{ROOM}.sig.{{other}}.>",
        f"room.{ROOM}.>",
        f"room.{OTHER_ROOM}.sig.*.all",
        f"room.{OTHER_ROOM}.sig.*.{{own}}",
        "room.*.sig.*.all",
        "room.*.sig.*.{own}",
    ],
)
async def test_nobody_hears_what_is_for_another_or_of_another_room(stage: Stage, subject: str) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM, OTHER_ROOM)
    async with stage.connect(alice) as a:
        named = subject.format(own=alice.user, other=bob.user)
        await a.client.subscribe(named)
        assert f'subscription to "{named.lower()}"' in await a.refused()


async def test_a_reader_hears_what_is_for_all_and_sends_nothing(stage: Stage) -> None:
    alice, rex = stage.member(ROOM), stage.member(OTHER_ROOM)
    stage.policy.readers[rex.user] = {ROOM}
    async with stage.connect(alice) as a, stage.connect(rex) as r:
        await r.client.subscribe(subjects.room_signals(ROOM, "*", rex.user))
        assert "permissions violation for subscription" in await r.refused()
        for to in (subjects.ALL, alice.user):
            await r.client.publish(subjects.room_signals(ROOM, rex.user, to), b"x")
            assert "permissions violation for publish" in await r.refused()
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def take(message: Msg) -> None:
            heard.put_nowait(message.data)

        await r.client.subscribe(subjects.room_signals(ROOM), cb=take)
        await r.publish(OTHER_ROOM)
        await a.client.publish(subjects.room_signals(ROOM, alice.user), b"hello")
        async with asyncio.timeout(WAIT):
            assert await heard.get() == b"hello"


async def test_a_removed_readers_live_subscription_is_cut(stage: Stage) -> None:
    alice, rex = stage.member(ROOM), stage.member(OTHER_ROOM)
    stage.policy.readers[rex.user] = {ROOM}
    async with (
        stage.connect(alice) as a,
        stage.connect(rex) as r,
        stage.connect(rex, f"rooms={OTHER_ROOM}") as elsewhere,
    ):
        await r.client.subscribe(subjects.room_signals(ROOM))
        await r.publish(OTHER_ROOM)
        stage.policy.readers[rex.user] = set()
        await stage.plane.withdraw(rex.user, ROOM)
        # The server has ended it when the removal is answered; here that is seen a moment later.
        async with asyncio.timeout(1.0):
            await r.closed.wait()
        await a.client.publish(subjects.room_signals(ROOM, alice.user), b"without rex")
        assert (await elsewhere.publish(OTHER_ROOM))["seq"] == 2, "a connection without the room stays"
        async with stage.connect(rex) as again:
            await again.client.subscribe(subjects.room_signals(ROOM))
            assert "permissions violation for subscription" in await again.refused()


async def test_a_reader_removed_while_it_connects_does_not_come_in(stage: Stage) -> None:
    rex = stage.member()
    stage.policy.readers[rex.user] = {ROOM}
    stage.policy.gate.clear()
    entering = asyncio.create_task(shake_hands(stage.plane.client_port, login_of(rex)))
    assert await stage.policy.asked.get() == rex.user
    stage.policy.readers[rex.user] = set()
    await stage.plane.withdraw(rex.user, ROOM)
    stage.policy.gate.set()
    assert await entering != "PONG"
    await stage.log.heard("a connection was refused", user=rex.user, code="not-a-user")


async def test_a_reply_subject_does_not_make_the_server_signal_for_another(stage: Stage) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM)
    async with stage.connect(alice) as a, stage.connect(bob) as b:
        at_bob = await _listen(b, subjects.room_signals(ROOM), subjects.room_signals(ROOM, "*", bob.user))
        target = subjects.room_signals(ROOM, bob.user, bob.user)
        for subject in (subjects.room_signals(ROOM, alice.user, alice.user), subjects.control(alice.user, "deliver")):
            await a.client.publish(subject, b"{}", reply=target)
        await a.publish()
        await a.client.publish(subjects.room_signals(ROOM, alice.user), b"end")
        said = [await _next(at_bob)]
        while said[-1][1] != b"end":
            said.append(await _next(at_bob))
        # What the daemon answers can be aimed at a member's subject; it is no frame, and no client takes it for one.
        assert all(body.startswith(b'{"error"') for _, body in said[:-1])
