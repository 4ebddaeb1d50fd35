"""Three real servers, and a member whose headers are to stop the messages of everybody."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import pytest
from nats.aio.msg import Msg

from tests.bus.cluster_stage import NAMES, ClusterStage, trio, until
from tests.bus.raw_headers import STOPS, raw_member, rows
from tests.bus.stage import OTHER_ROOM, ROOM, Connection, Member, Stage, can_connect
from unibus.bus.plane import STOPPED_BY_A_MEMBER
from unibus.bus.shut_out import FORGET_AFTER, SUBJECT, ShutOut
from unibus.model import subjects

RECOVERS = 40.0
"""Seconds that all may take on a busy machine; elections alone take 4 to 9, and seldom two are needed."""


@asynccontextmanager
async def connected(stage: Stage, member: Member) -> AsyncIterator[Connection]:
    """A connection, tried for until there is one: nats-server may be between two lives."""
    async with asyncio.timeout(RECOVERS):
        while not await can_connect(stage, member):  # noqa: ASYNC110 - trying is all that one can do
            await asyncio.sleep(0.05)
    async with stage.connect(member) as connection:
        yield connection


async def send(stage: Stage, member: Member, bodies: list[bytes]) -> None:
    """Publish each until it is acknowledged, as the client library does: the same under the same id."""
    async with asyncio.timeout(RECOVERS):
        while bodies:
            try:
                async with connected(stage, member) as connection:
                    while bodies:
                        request = connection.client.request(
                            member.sender(), bodies[0], headers={"Nats-Msg-Id": bodies[0].decode()}, timeout=1
                        )
                        if "error" not in json.loads((await request).data):
                            bodies.pop(0)
            except (nats.errors.Error, OSError):
                await asyncio.sleep(0.05)


async def held(cluster: ClusterStage) -> list[object]:
    """What each replica holds of the stream, by its own account."""
    found = []
    for name in NAMES:
        client = await cluster.stages[name].plane.core_dial()
        try:
            reply = await client.request(f"$JS.API.STREAM.INFO.{subjects.STREAM}", b"", timeout=5)
            found.append(json.loads(reply.data)["state"]["last_seq"])
        finally:
            await client.close()
    return found


def unmended(home: Path) -> list[Path]:
    """The files of all nodes in which the header stands."""
    return [path for path in home.rglob("*.blk") if b"Nats-Expected-Last" in path.read_bytes()]


async def test_no_other_header_stops_the_messages_of_a_cluster(tmp_path: Path) -> None:
    async with trio(tmp_path) as cluster:
        one, two = cluster.stages["one"], cluster.stages["two"]
        mallory, bob = one.member(ROOM), two.member(ROOM, OTHER_ROOM)
        inbox = subjects.inbox_prefix(mallory.user)
        async with two.connect(bob) as honest:
            for name, block in rows(mallory).items():
                async with raw_member(one.plane.client_port, mallory) as raw:  # one for each: some end the connection
                    for body, reply in ((b"", ""), (b"", f"{inbox}.x"), (b"x", f"{inbox}.id.10.fail.1.0.$FI")):
                        await raw.publish(block, body, reply)
                assert "error" not in await honest.publish(data=b"honest"), name
        for stage in cluster.stages.values():
            assert stage.plane.status()["ready"]
            assert stage.plane.status()["restarts"] == 0
            assert stage.plane.status()["reasons"] == []


async def test_a_message_that_stops_every_replica_costs_seconds_and_its_sender_the_way_in(tmp_path: Path) -> None:
    """Without the remedy one such message stops all messages, and records, of the cluster for good."""
    async with trio(tmp_path) as cluster:
        one, two, three = (cluster.stages[name] for name in NAMES)
        mallory, bob, carol = one.member(ROOM), two.member(ROOM), three.member(ROOM)
        await send(two, bob, [b"before"])
        async with three.connect(carol) as innocent:  # says the same where it means nothing
            await innocent.publish(data=STOPS + mallory.sender().encode())
        began = time.monotonic()
        async with raw_member(one.plane.client_port, mallory) as raw:
            await raw.publish(STOPS)
            await raw.publish(STOPS, b"compressed" * 4000)
        bodies = [f"honest {number}".encode() for number in range(50)]
        await send(two, bob, list(bodies))
        assert time.monotonic() - began < RECOVERS
        await until(lambda: all(stage.plane.status()["ready"] for stage in cluster.stages.values()))
        await until(lambda: all(stage.plane.status()["reasons"] for stage in cluster.stages.values()))
        async with connected(three, carol) as connection:
            reading = await connection.read()
            frames: list[Msg] = []
            while not frames or frames[-1].data != bodies[-1]:
                frames.append(await reading.next())
        assert [frame.data for frame in frames if frame.subject == bob.sender()] == [b"before", *bodies]
        for frame in frames:  # what mallory wrote is hers like any other, and does nothing
            assert b"Expected" not in frame.data or frame.subject == carol.sender()
            assert "Nats-Expected-Last-Msg-Id" not in (frame.headers or {})
        assert len(set(await held(cluster))) == 1
        for stage in (one, two, three):
            assert not await can_connect(stage, mallory)
            assert await can_connect(stage, bob)
            assert stage.plane.status()["reasons"] == [STOPPED_BY_A_MEMBER]
            found = [entry["user"] for entry in stage.log.entries if "revoke them" in str(entry["event"])]
            assert set(found) == {mallory.user}
            assert "nobody's" not in json.dumps(stage.plane.status())


async def test_every_daemon_shuts_out_whom_one_has_found(tmp_path: Path) -> None:
    """A node that keeps no messages finds nobody itself."""
    async with trio(tmp_path) as cluster:
        one, two, three = (cluster.stages[name] for name in NAMES)
        mallory, bob = one.member(ROOM), one.member(ROOM)
        async with two.connect(mallory) as there, two.connect(bob) as other:
            client = await three.plane.core_dial()
            await client.publish(SUBJECT, json.dumps([mallory.user]).encode())
            await client.close()
            await there.closed.wait()
            assert not other.closed.is_set()
        await until(lambda: all(stage.plane.status()["reasons"] for stage in cluster.stages.values()))
        for stage in (one, two, three):
            assert not await can_connect(stage, mallory)
            assert await can_connect(stage, bob)


def test_who_is_told_of_no_more_is_forgotten_and_who_was_found_here_is_not() -> None:
    known = ShutOut()
    assert known.hear(["a"], 0.0) == ["a"]
    assert known.hear(["a", "b"], 30.0) == ["b"]
    assert known.holds("a", 30.0 + FORGET_AFTER - 1)
    assert not known.anybody(30.0 + FORGET_AFTER)
    assert known.hear(["a"], 200.0) == ["a"]
    known.forget("a")
    assert not known.anybody(200.0)
    known.find(["c"])
    assert known.holds("c", 1e9)
    assert known.hear(["c"], 0.0) == []
    known.forget("c")
    assert not known.holds("c", 1.0)


@pytest.mark.faults
async def test_each_who_tries_it_stops_it_once(tmp_path: Path) -> None:
    """Several, on different nodes; a restart of everything brings no old one back to life."""
    async with trio(tmp_path) as cluster:
        bob = cluster.stages["two"].member(ROOM)
        for name in NAMES:
            mallory = cluster.stages[name].member(ROOM)
            async with raw_member(cluster.stages[name].plane.client_port, mallory) as raw:
                await raw.publish(STOPS)
            await send(cluster.stages["two"], bob, [f"after {name}".encode()])
            await until(lambda: all(stage.plane.status()["ready"] for stage in cluster.stages.values()), RECOVERS)
        for name in NAMES:
            await cluster.stop(name)
        await asyncio.gather(*(cluster.start(name) for name in NAMES))
        await cluster.all_ready()
        assert [stage.plane.status()["restarts"] for stage in cluster.stages.values()] == [0, 0, 0]
        await send(cluster.stages["one"], bob, [b"in the end"])


@pytest.mark.faults
async def test_it_is_mended_too_when_every_daemon_was_restarted_before(tmp_path: Path) -> None:
    """What stands in the files is noticed again by whoever comes after."""
    async with trio(tmp_path) as cluster:
        bob, mallory = cluster.stages["two"].member(ROOM), cluster.stages["one"].member(ROOM)
        async with raw_member(cluster.stages["one"].plane.client_port, mallory) as raw:
            await raw.publish(STOPS)
        await asyncio.gather(*(cluster.stop(name) for name in NAMES))
        assert unmended(tmp_path)
        await asyncio.gather(*(cluster.start(name) for name in NAMES))
        await send(cluster.stages["two"], bob, [b"after"])
        await until(lambda: all(stage.plane.status()["reasons"] for stage in cluster.stages.values()))
        # A node may have heard of it from the others before its own replica comes to the entry.
        await until(lambda: not unmended(tmp_path), RECOVERS)
        assert not await can_connect(cluster.stages["two"], mallory)
