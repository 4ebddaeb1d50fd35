"""Revocation is now: live connections, live deliveries, and the ones on their way in."""

import asyncio
import json
import secrets

from tests.bus.stage import OTHER_ROOM, ROOM, Connection, Stage, can_connect, eventually, login_of, shake_hands


async def _closed(connection: Connection) -> None:
    async with asyncio.timeout(1.0):
        await connection.closed.wait()


async def test_cut_ends_the_live_connection_and_refuses_the_next(stage: Stage) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM)
    async with stage.connect(alice) as a, stage.connect(alice) as second, stage.connect(bob) as b:
        reading = await a.read()
        await b.publish(data=b"seen")
        await reading.next()
        del stage.policy.rooms[alice.user]
        await stage.plane.cut(alice.user)
        await _closed(a)
        await _closed(second)
        await b.publish(data=b"unseen")
        assert not await can_connect(stage, alice)
        assert reading.waiting == 0
        assert (stage.plane.status()["connections"], stage.plane.status()["deliveries"]) == (1, 0)


async def test_cut_of_somebody_who_is_not_there_is_no_error(stage: Stage) -> None:
    await stage.plane.cut(stage.member().user)
    await stage.plane.withdraw(stage.member().user, ROOM)


async def test_withdraw_ends_the_delivery_without_a_leak(stage: Stage) -> None:
    """A connection that does not carry the room stays: of what it reads there, only the delivery goes."""
    alice, reader = stage.member(ROOM, OTHER_ROOM), stage.member()
    stage.policy.readers[reader.user] = {ROOM, OTHER_ROOM}
    async with stage.connect(alice) as a, stage.connect(reader, rooms=f"rooms={OTHER_ROOM}") as r:
        gone, kept = await r.read(ROOM), await r.read(OTHER_ROOM)
        await a.publish(ROOM, b"before")
        assert await gone.bodies(1) == [b"before"]
        stage.policy.readers[reader.user] = {OTHER_ROOM}
        await stage.plane.withdraw(reader.user, ROOM)
        for number in range(200):
            await a.publish(ROOM, b"secret %d" % number)
        await a.publish(OTHER_ROOM, b"still here")
        assert await kept.bodies(1) == [b"still here"]
        assert gone.waiting == 0
        assert not r.closed.is_set()


async def test_withdraw_cuts_a_connection_that_may_write_there(stage: Stage) -> None:
    alice = stage.member(ROOM, OTHER_ROOM)
    async with stage.connect(alice) as wide, stage.connect(alice, rooms=f"rooms={OTHER_ROOM}") as narrow:
        stage.policy.rooms[alice.user] = {OTHER_ROOM}
        await stage.plane.withdraw(alice.user, ROOM)
        await _closed(wide)
        assert (await narrow.publish(OTHER_ROOM))["seq"] == 1
    async with stage.connect(alice) as again:
        await again.client.publish(alice.sender(ROOM), b"x")
        assert "permissions violation" in await again.refused()


async def test_a_cut_during_the_decision_wins(stage: Stage) -> None:
    """The policy answered on the state before the removal, and the answer comes after it."""
    alice = stage.member(ROOM)
    stage.policy.gate.clear()
    entering = asyncio.create_task(shake_hands(stage.plane.client_port, login_of(alice)))
    assert await stage.policy.asked.get() == alice.user
    del stage.policy.rooms[alice.user]
    await stage.plane.cut(alice.user)
    stage.policy.gate.set()
    assert await entering != "PONG"
    await stage.log.heard("a connection was refused", user=alice.user, code="not-a-user")
    assert stage.plane.status()["connections"] == 0


async def test_no_cut_at_any_moment_of_entering_leaves_a_connection(stage: Stage) -> None:
    """The cut falls somewhere between the request and the first message, a little later each time."""
    for step in range(60):
        alice = stage.member(ROOM)
        connection = Connection(alice)
        entering = asyncio.create_task(connection.open(stage.plane.client_port, None))
        assert await stage.policy.asked.get() == alice.user
        for _ in range(step):
            await asyncio.sleep(0)
        del stage.policy.rooms[alice.user]
        await stage.plane.cut(alice.user)
        await asyncio.gather(entering, return_exceptions=True)
        if entering.exception() is None:
            await _closed(connection)
        await connection.client.close()
    await eventually(lambda: stage.plane.status()["connections"] == 0)


async def test_no_withdrawal_at_any_moment_of_opening_leaves_a_delivery(stage: Stage) -> None:
    alice, reader = stage.member(ROOM), stage.member()
    async with stage.connect(alice) as a, stage.connect(reader) as r:
        for step in range(60):
            stage.policy.readers[reader.user] = {ROOM}
            while not stage.policy.asked.empty():
                stage.policy.asked.get_nowait()
            token = secrets.token_urlsafe(16)
            leaked = await r.client.subscribe(f"dlv.{reader.user}.{token}")
            await r.client.flush()
            opening = asyncio.create_task(r.ask({"room": ROOM, "token": token, "after": None}))
            assert await stage.policy.asked.get() == reader.user
            for _ in range(step):
                await asyncio.sleep(0)
            stage.policy.readers[reader.user] = set()
            await stage.plane.withdraw(reader.user, ROOM)
            answer = await opening
            assert stage.plane.status()["deliveries"] == 0, f"step {step}: {json.dumps(answer)}"
            await a.publish(data=b"secret")
            await r.client.flush()
            assert leaked.pending_msgs == 0
            await leaked.unsubscribe()


async def test_no_delivery_lives_outside_the_books(stage: Stage) -> None:
    """Taken away while it is opened and given again at once: what then runs must still be within reach."""
    alice, reader = stage.member(ROOM), stage.member()
    async with stage.connect(alice) as a, stage.connect(reader) as r:
        stage.policy.readers[reader.user] = {ROOM}
        for step in range(60):
            while not stage.policy.asked.empty():
                stage.policy.asked.get_nowait()
            token = secrets.token_urlsafe(16)
            leaked = await r.client.subscribe(f"dlv.{reader.user}.{token}")
            await r.client.flush()
            opening = asyncio.create_task(r.ask({"room": ROOM, "token": token, "after": None}))
            assert await stage.policy.asked.get() == reader.user
            for _ in range(step):
                await asyncio.sleep(0)
            await stage.plane.withdraw(reader.user, ROOM)
            await opening
            await stage.plane.withdraw(reader.user, ROOM)
            await a.publish(data=b"secret")
            await r.client.flush()
            assert leaked.pending_msgs == 0, f"step {step}"
            await leaked.unsubscribe()


async def test_a_connection_that_ends_by_itself_is_forgotten(stage: Stage) -> None:
    async with stage.connect(stage.member(ROOM)):
        await eventually(lambda: stage.plane.status()["connections"] == 1)
    await eventually(lambda: stage.plane.status()["connections"] == 0)
