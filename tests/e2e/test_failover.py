"""Several nodes, of which some are away: the client goes on at another, on both planes, and nothing fails or doubles.

The nodes are real proxies before one real daemon, so that a test can cut, silence and bring back each of them.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders import identity
from tests.e2e.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.people import Place, tail
from tests.support.proxies import ProxiedNode, State, proxied
from unibus import connect
from unibus.client.blob_source import PART
from unibus.client.joining import join_bus
from unibus.crypto.invites import read_token
from unibus.errors import Unreachable

pytestmark = pytest.mark.slow

LONG = 45.0  # seconds


class Cluster:
    """The nodes that a client sees, and the place behind them."""

    def __init__(self, nodes: list[ProxiedNode], place: Place) -> None:
        self.nodes = nodes
        self.place = place

    @property
    def urls(self) -> str:
        return ",".join(node.url for node in self.nodes)

    def at(self, url: object) -> ProxiedNode:
        """The node that answers at `url`."""
        return next(node for node in self.nodes if node.url == str(url).rstrip("/"))


@pytest.fixture
async def cluster(start_daemon: StartDaemon, data_dir: Path) -> AsyncIterator[Cluster]:
    """Three nodes, and a bus of ada's with bob."""
    daemon: Daemon = await start_daemon()
    async with proxied(daemon.http_port, daemon.nats_port, 3) as nodes:
        found = Cluster(nodes, Place(",".join(node.url for node in nodes), data_dir))
        await found.place.found("bob")
        yield found


@pytest.mark.parametrize("state", [State.CUT, State.MUTE])
async def test_writes_and_reads_go_on_without_the_node_that_served(cluster: Cluster, state: State) -> None:
    async with asyncio.timeout(LONG), cluster.place.enter("ada") as ada, cluster.place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        async with tail(await bob.room("ops")) as reading:
            await room.send("before")
            await reading.until(1)
            served = ada.api.url
            await cluster.at(served).become(state)
            began = time.monotonic()
            await ada.change_role("bob", "admin")
            assert ada.api.url != served
            assert time.monotonic() - began < 6
            await room.send("after")
            assert await reading.until(2) == ["before", "after"]
            assert time.monotonic() - began < 20
            assert reading.refused == []
        asked = ada.api.url
        await cluster.at(served).become(State.OPEN)
        await ada.users()
        assert ada.api.url == asked  # it stays with the node that works


async def test_every_node_is_away_in_turn_and_each_message_comes_once_in_order(cluster: Cluster) -> None:
    async with asyncio.timeout(LONG), cluster.place.enter("ada") as ada, cluster.place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        async with tail(await bob.room("ops")) as reading:
            await reading.until(0)
            for node in [*cluster.nodes, *cluster.nodes]:
                sent = [room.post(f"{len(reading.got) + number}") for number in range(20)]
                await sent[0]
                await node.become(State.CUT)
                sent += [room.post(f"{len(reading.got) + number}") for number in range(20)]
                await asyncio.gather(*(_wait(one) for one in sent))
                await node.become(State.OPEN)
            await room.send("the end")
            assert len(await reading.until(241)) == 241  # so none is there twice
            assert reading.texts[-1] == "the end"
            assert reading.positions == sorted(set(reading.positions))
            assert reading.refused == []
        async with tail(await bob.room("ops")) as again:
            await again.until(241)
            assert again.texts == reading.texts


async def _wait(sent: object) -> None:
    await sent  # type: ignore[misc]  # a `Sent`, which is awaitable and no coroutine


async def test_no_operation_fails_while_all_nodes_are_away_for_a_while(cluster: Cluster) -> None:
    async with asyncio.timeout(LONG), cluster.place.enter("ada") as ada:
        room = await ada.create_room("ops")
        for node in cluster.nodes:
            await node.become(State.CUT)
        waiting = [asyncio.create_task(room.add("bob")), asyncio.create_task(_wait(room.post("meanwhile")))]
        _, pending = await asyncio.wait(waiting, timeout=1.5)
        assert len(pending) == 2
        await cluster.nodes[1].become(State.OPEN)
        await asyncio.gather(*waiting)
        assert room.members == {"ada": "owner", "bob": "member"}


async def test_when_all_stay_away_the_deadline_ends_it_by_name(cluster: Cluster) -> None:
    async with asyncio.timeout(LONG), connect(cluster.urls, identity("ada"), deadline=1.0) as ada:
        for node in cluster.nodes:
            await node.become(State.CUT)
        began = time.monotonic()
        with pytest.raises(Unreachable, match="cannot reach"):
            await ada.admit("dan", identity("dan").card())
        assert 0.3 < time.monotonic() - began < 3


async def test_a_change_whose_answer_was_lost_is_made_once(cluster: Cluster) -> None:
    async with asyncio.timeout(LONG), cluster.place.enter("ada") as ada:
        before = ada.directory.head.sequence
        served = cluster.at(ada.api.url)
        await served.http.become(State.LOSING)
        await ada.admit("dan", identity("dan").card())
        assert ada.directory.head.sequence == before + 1
        assert "dan" in {user.handle for user in await ada.users()}
        await served.http.become(State.OPEN)


async def test_a_node_that_is_silent_on_the_bus_only_is_left_too(cluster: Cluster) -> None:
    async with asyncio.timeout(LONG), cluster.place.enter("ada") as ada:
        room = await ada.create_room("ops")
        await room.send("before")
        await cluster.at(ada.api.url).nats.become(State.MUTE)
        began = time.monotonic()
        await room.send("after")
        assert time.monotonic() - began < 12


async def test_a_blob_goes_on_at_another_node(cluster: Cluster, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3 * PART))
    async with asyncio.timeout(LONG), cluster.place.enter("ada") as ada:
        room = await ada.create_room("ops")
        cutting: list[asyncio.Task[None]] = []

        def cut_once(done: int, _all: int) -> None:
            if done >= PART and not cutting:
                cutting.append(asyncio.create_task(cluster.at(ada.api.url).http.become(State.CUT)))

        blob = await room.put_blob(source, "source", progress=cut_once)
        await cutting[0]
        assert (await room.get_blob(blob, target)).size == 3 * PART
        assert target.read_bytes() == source.read_bytes()
        await cluster.at(ada.api.url).http.become(State.LOSING)
        await room.delete_blob(blob)  # the answer is lost: that it is gone already is what was wanted
        assert await room.blobs() == []


async def test_an_invite_names_all_nodes_and_is_good_while_one_is_there(cluster: Cluster) -> None:
    async with asyncio.timeout(LONG), cluster.place.enter("ada") as ada:
        token = read_token((await ada.invite(handle="dan")).text)
        assert token.url == cluster.urls
        await cluster.nodes[0].become(State.CUT)
        await cluster.nodes[1].http.become(State.LOSING)
        assert await join_bus(token, identity("dan"), None) == "dan"
