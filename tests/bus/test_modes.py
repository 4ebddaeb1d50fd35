"""The weaker modes let everybody in; `warn` says what `enforce` would refuse; JetStream stays out of reach in both."""

import asyncio
import contextlib
import secrets
from typing import Literal

import nats.errors
import pytest

from tests.bus.conftest import StartStage
from tests.bus.stage import OTHER_ROOM, ROOM, Member, Stage, login_of, shake_hands
from unibus.bus.listening import covers
from unibus.bus.options import BusAuth
from unibus.model import subjects

LENIENT = [BusAuth.WARN, BusAuth.OFF]


async def _exchange(stage: Stage, member: Member) -> None:
    """Publish and read in a room that the member may not touch."""
    async with stage.connect(member) as c:
        reading = await c.read(OTHER_ROOM)
        assert reading.answer == {"after": 0}
        await c.publish(OTHER_ROOM, b"let through")
        assert await reading.bodies(1) == [b"let through"]


@pytest.mark.parametrize("mode", LENIENT)
async def test_everybody_is_let_in(start_stage: StartStage, mode: BusAuth) -> None:
    stage = await start_stage(mode)
    member = stage.member(ROOM)
    assert await shake_hands(stage.plane.client_port, lambda _: {}) == "PONG"
    assert await shake_hands(stage.plane.client_port, login_of(member, sig="AAAA")) == "PONG"
    assert await shake_hands(stage.plane.client_port, lambda _: {"user": "x", "pass": "y"}) == "PONG"
    await _exchange(stage, member)
    await _exchange(stage, Member())
    assert stage.plane.status()["auth"] == mode.value


@pytest.mark.parametrize("mode", LENIENT)
async def test_jetstream_and_the_system_stay_out_of_reach(start_stage: StartStage, mode: BusAuth) -> None:
    stage = await start_stage(mode)
    async with stage.connect(Member()) as c:
        for subject in ("$JS.API.INFO", "$JS.API.STREAM.DELETE.ROOMS"):
            assert b"JetStream not enabled for account" in (await c.client.request(subject, b"")).data
        for subject in ("$SYS.REQ.SERVER.PING", "$SYS.REQ.USER.AUTH", "$SYS.REQ.ACCOUNT.CORE.CONNZ"):
            with pytest.raises(nats.errors.NoRespondersError):
                await c.client.request(subject, b"")
        assert (await c.publish())["seq"] == 1


async def test_warn_names_what_enforce_would_refuse(start_stage: StartStage) -> None:
    stage = await start_stage(BusAuth.WARN)
    member, stranger = stage.member(ROOM), Member()
    await _exchange(stage, member)
    await stage.log.heard("enforce would refuse this delivery", user=member.user, room=OTHER_ROOM, code="not-found")
    await stage.log.heard("enforce would refuse this publish", user=member.user, room=OTHER_ROOM)
    await _exchange(stage, stranger)
    await stage.log.heard("enforce would refuse this connection", user=stranger.user, code="not-a-user")
    await stage.log.heard("enforce would refuse this delivery", user=stranger.user, code="not-a-user")
    await stage.log.heard("enforce would refuse this publish", user=stranger.user)


async def test_warn_names_subscriptions_that_enforce_would_refuse(start_stage: StartStage) -> None:
    stage = await start_stage(BusAuth.WARN)
    member, other = stage.member(ROOM), stage.member(OTHER_ROOM)
    async with stage.connect(member) as c:
        await c.client.subscribe(subjects.events(member.user))
        await c.client.subscribe(subjects.events(other.user))
        await c.client.subscribe("room.*.sig.>")
        await stage.log.heard(
            "enforce would refuse this subscription", user=member.user, subject=subjects.events(other.user)
        )
        await stage.log.heard("enforce would refuse this subscription", subject="room.*.sig.>")
    told = [entry["subject"] for entry in stage.log.entries if "subscription" in str(entry["event"])]
    assert sorted(map(str, told)) == sorted([subjects.events(other.user), "room.*.sig.>"])


class _Deaf(asyncio.Event):
    """Swallows a cancellation of who waits for it, as `asyncio.wait_for` of Python 3.11 may."""

    async def wait(self) -> Literal[True]:
        with contextlib.suppress(asyncio.CancelledError):
            await super().wait()
        return True


async def test_what_looks_at_the_server_ends_with_it_though_it_swallows_a_cancellation(start_stage: StartStage) -> None:
    stage = await start_stage(BusAuth.WARN)
    async with stage.connect(stage.member(ROOM)):
        while not stage.policy.asked.empty():
            stage.policy.asked.get_nowait()
        stage.policy.gate = _Deaf()
        await stage.policy.asked.get()  # of the subscriptions
        await stage.plane.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "subscriptions watch"]


@pytest.mark.parametrize(
    ("allowed", "wanted", "covered"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.*", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a.>", True),
        (">", "a", True),
        ("a.b", "a.*", False),
        ("a.*", "a.>", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a", False),
        ("a.b.c", "a.b", False),
        ("a", "b", False),
    ],
)
def test_what_a_subject_covers(allowed: str, wanted: str, covered: bool) -> None:
    assert covers(allowed, wanted) is covered


async def test_warn_is_silent_about_what_enforce_would_allow(start_stage: StartStage) -> None:
    stage = await start_stage(BusAuth.WARN)
    async with stage.connect(stage.member(ROOM)) as c:
        reading = await c.read(token=secrets.token_urlsafe(16))
        await c.publish()
        await reading.next()
        await c.client.publish(f"room.{ROOM}.msg.somebody", b"")
        # The tap sees publishes in order, so by then it has seen the first.
        await stage.log.heard("enforce would refuse this publish", user="somebody")
    told = [entry for entry in stage.log.entries if str(entry["event"]).startswith("enforce")]
    assert len(told) == 1


@pytest.mark.parametrize("mode", LENIENT)
async def test_cut_reaches_connections_there_too(start_stage: StartStage, mode: BusAuth) -> None:
    stage = await start_stage(mode)
    member = stage.member(ROOM)
    async with stage.connect(member) as c:
        await stage.plane.cut(member.user)
        await c.closed.wait()
