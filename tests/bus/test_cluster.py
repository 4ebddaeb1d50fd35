"""Three real servers: what one node's members send, another's read; losing one, or two, and having them again."""

import asyncio
import json
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import nats.errors
import pytest

from tests.bus.cluster_stage import NAMES, ClusterStage, ready, trio, until, until_told
from tests.bus.stage import ROOM, WAIT, Connection, Logbook, Reading, Stage, can_connect, eventually
from tests.support.processes import nats_servers
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.cluster.ports import free_ports
from unibus.errors import StartRefused
from unibus.model.subjects import STREAM


async def ask(plane: BusPlane, call: str, body: object = None) -> dict[str, object]:
    """JetStream's answer, over a connection of its own as the store makes them."""
    client = await plane.core_dial()
    try:
        reply = await client.request(f"$JS.API.{call}", json.dumps(body).encode() if body else b"", timeout=10)
        return dict(json.loads(reply.data))
    finally:
        await client.close()


async def consumers(plane: BusPlane) -> object:
    return (await ask(plane, f"CONSUMER.NAMES.{STREAM}"))["consumers"]


async def lacks(plane: BusPlane, token: str) -> bool:
    return token not in str(await consumers(plane))


async def keeper(plane: BusPlane, token: str) -> object:
    """Which node keeps the consumer behind a delivery."""
    found = (await ask(plane, f"CONSUMER.INFO.{STREAM}.{token}"))["cluster"]
    assert isinstance(found, dict)
    return found["leader"]


async def publish(connection: Connection, body: bytes) -> None:
    """Publish until it is acknowledged, as clients do while a leader is chosen."""
    async with asyncio.timeout(30):
        while True:
            try:
                answer = await connection.publish(data=body, Nats_Msg_Id=body.decode())
            except nats.errors.Error:
                answer = {"error": "not now"}
            if "error" not in answer:
                return
            await asyncio.sleep(0.05)


async def read(connection: Connection) -> Reading:
    """A delivery of all there is, asked for until there is one."""
    async with asyncio.timeout(30):
        while "error" in (reading := await connection.read()).answer:  # noqa: ASYNC110 - asking is all one can do
            await asyncio.sleep(0.05)
    return reading


async def test_what_is_sent_on_one_node_is_read_on_the_others(tmp_path: Path) -> None:
    async with trio(tmp_path) as cluster, AsyncExitStack() as stack:
        one, two, three = (cluster.stages[name] for name in NAMES)
        alice, bob = one.member(ROOM), two.member(ROOM)
        a = await stack.enter_async_context(one.connect(alice))
        b = await stack.enter_async_context(two.connect(bob))
        again = await stack.enter_async_context(three.connect(alice))
        readings = [await connection.read() for connection in (a, b, again)]
        assert [reading.answer for reading in readings] == [{"after": 0}] * 3
        await a.publish(data=b"from one")
        await again.publish(data=b"from three")
        for reading in readings:
            assert await reading.bodies(2) == [b"from one", b"from three"]
        # Each daemon decides about the connections and deliveries of its own server, and about no others.
        await eventually(lambda: all(stage.plane.status()["connections"] == 1 for stage in (one, two, three)))
        for stage in (one, two, three):
            assert stage.plane.status()["deliveries"] == 1
            assert "a callout request was not understood" not in {entry["event"] for entry in stage.log.entries}
        assert cluster.policy.asked.qsize() == 3 + 2 * 3  # three connections, and each delivery before and after
        await one.plane.announce([alice.user], "room/x", 1, "digest")
        for plane in (one.plane, three.plane):
            await plane.cut(alice.user)
        await a.closed.wait()
        await again.closed.wait()
        assert not b.closed.is_set()
        assert await consumers(one.plane) == [readings[1].token]


async def test_what_a_node_says_of_the_others_is_what_their_servers_say(tmp_path: Path) -> None:
    async with trio(tmp_path) as cluster:
        status = cluster.stages["one"].plane.status()
        view = status["cluster"]
        assert isinstance(view, dict)
        assert (view["name"], view["size"], view["quorum"], view["ha"]) == ("trio", 3, True, True)
        assert view["route_tls"] is True
        assert view["route_tls_until"] > 0
        assert view["leader"] in NAMES
        assert [peer["name"] for peer in view["peers"]] == ["three", "two"]
        assert view["streams"][STREAM]["replicas"] == 3
        assert status["auth"] == "enforce"
        json.dumps(status)  # it is shown to anybody


async def test_the_others_go_on_when_a_server_is_killed_and_it_comes_back(tmp_path: Path) -> None:
    async with trio(tmp_path) as cluster, AsyncExitStack() as stack:
        lost = cluster.leader
        alive = next(name for name in NAMES if name != lost)
        member = cluster.stages[alive].member(ROOM)
        there = await stack.enter_async_context(cluster.stages[lost].connect(member))
        here = await stack.enter_async_context(cluster.stages[alive].connect(member))
        orphan = await there.read()
        await publish(here, b"before")
        os.kill(cluster.pid(lost), signal.SIGKILL)
        await there.closed.wait()
        # A reader that goes on listening where its daemon does not know of it.
        await here.client.subscribe(f"dlv.{member.user}.{orphan.token}", cb=orphan.take)
        await publish(here, b"after")
        assert await (await read(here)).bodies(2) == [b"before", b"after"]
        await cluster.all_ready()
        assert cluster.stages[lost].plane.status()["restarts"] == 1
        assert cluster.stages[alive].plane.status()["restarts"] == 0

        await until_told(lambda: lacks(cluster.stages[alive].plane, orphan.token))
        while orphan.waiting:
            await orphan.next()
        await publish(here, b"unheard")
        assert orphan.waiting == 0


async def test_without_a_quorum_a_node_waits_and_serves_again_with_it(tmp_path: Path) -> None:
    async with trio(tmp_path) as cluster, AsyncExitStack() as stack:
        one = cluster.stages["one"]
        mallory, bob = one.member(ROOM), one.member(ROOM)
        m = await stack.enter_async_context(one.connect(mallory))
        b = await stack.enter_async_context(one.connect(bob))
        while await keeper(one.plane, (reading := await m.read()).token) != "one":
            pass  # kept elsewhere it would end with the server that keeps it
        pid = cluster.pid("one")
        for name in ("two", "three"):
            await cluster.stop(name)
        await until(lambda: not ready(one))
        await until(lambda: one.plane.status()["reason"] == "waiting for the cluster: 1 of 3 nodes")
        # A removal now: the delivery cannot be ended yet, so its reader is sent away and stays outside.
        del one.policy.rooms[mallory.user]
        await asyncio.wait_for(one.plane.withdraw(mallory.user, ROOM), 10)
        await m.closed.wait()
        one.policy.rooms[mallory.user] = set()
        assert not await can_connect(one, mallory)
        assert not b.closed.is_set()
        assert cluster.pid("one") == pid
        for name in ("two", "three"):
            await cluster.start(name)
        await cluster.all_ready()
        assert one.plane.status()["restarts"] == 0
        await one.log.heard("the cluster serves")
        await until_told(lambda: can_connect(one, mallory))
        assert reading.token not in str(await consumers(one.plane))
        await publish(b, b"later")
        assert reading.waiting == 0


@pytest.mark.slow
async def test_a_second_node_of_a_name_gives_up_and_the_first_stays(tmp_path: Path) -> None:
    async with trio(tmp_path) as cluster:
        told = replace(cluster.cluster("one"), port=free_ports(1)[0])
        (tmp_path / "impostor").mkdir()
        options = BusOptions(tmp_path / "impostor", port=0, node="one", cluster=told)
        second = BusPlane(options, cluster.policy, Logbook().logger)
        await second.start()
        try:
            with pytest.raises(StartRefused, match="a node called one already: choose another name with --node-name"):
                await asyncio.wait_for(asyncio.shield(second.failed), WAIT)
        finally:
            await second.stop()
        assert nats_servers(tmp_path / "impostor") == []
        await cluster.all_ready()
        assert [stage.plane.status()["restarts"] for stage in cluster.stages.values()] == [0, 0, 0]


async def test_replicas_that_were_raised_in_place_stay(tmp_path: Path) -> None:
    async with trio(tmp_path, replicas=1) as cluster:
        one = cluster.stages["one"].plane
        config = (await ask(one, f"STREAM.INFO.{STREAM}"))["config"]
        assert isinstance(config, dict)
        assert config["num_replicas"] == 1
        await ask(one, f"STREAM.UPDATE.{STREAM}", {**config, "num_replicas": 3})
        await cluster.stop("two")
        two = await cluster.start("two")
        await cluster.all_ready()
        view = two.plane.status()["cluster"]
        assert isinstance(view, dict)
        assert view["streams"][STREAM]["replicas"] == 3


async def test_a_renewed_route_certificate_is_taken_up_and_no_route_ends(tmp_path: Path) -> None:
    async with trio(tmp_path) as cluster, AsyncExitStack() as stack:
        one = cluster.stages["one"]
        c = await stack.enter_async_context(one.connect(one.member(ROOM)))
        before, up = end_of_routes(one), closed_routes(cluster)
        cluster.renew("one")
        await cluster.certificates["one"].renew(one.plane.renew_certificate)
        assert not cluster.certificates["one"].trouble
        await until(lambda: end_of_routes(one) > before)
        await publish(c, b"still")
        assert not c.closed.is_set()
        assert closed_routes(cluster) == up


def end_of_routes(stage: Stage) -> float:
    view = stage.plane.status()["cluster"]
    assert isinstance(view, dict)
    return float(view["route_tls_until"])


def closed_routes(cluster: ClusterStage) -> int:
    lines = [str(entry.get("line")) for stage in cluster.stages.values() for entry in stage.log.entries]
    return sum("Router connection closed" in line for line in lines)
