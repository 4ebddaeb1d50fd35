"""`kill -9` under load, of either process: who sends and who reads goes on, and nothing acknowledged is lost."""

import asyncio

from tests.e2e.conftest import StartDaemon
from tests.e2e.load import each_once_and_in_order, post
from tests.support.daemon import Daemon
from tests.support.people import Place, tail
from tests.support.processes import kill_nats_server, nats_servers, no_nats_server
from unibus.daemon.node import Node

TOTAL = 6000
LONG = 45.0  # seconds


async def test_the_bus_is_killed_twice_under_load(node: tuple[Node, Place]) -> None:
    running, place = node
    await place.found("bob")
    async with asyncio.timeout(LONG), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        async with tail(await bob.room("ops")) as reading:
            sending = asyncio.create_task(post(room, TOTAL))
            for killed_at in (TOTAL // 4, TOTAL // 2):
                await reading.until(killed_at)
                live = await ada.link.connection()
                kill_nats_server(place.data_dir)
                await live.gone.wait()
                await ada.link.connection()
            acknowledged = await sending
            await reading.until(TOTAL)
            each_once_and_in_order(acknowledged, reading)
    assert running.bus.status()["restarts"] == 2
    async with asyncio.timeout(LONG), place.enter("bob") as bob, tail(await bob.room("ops")) as again:
        await again.until(TOTAL)
        each_once_and_in_order(acknowledged, again)


async def test_the_daemon_is_killed_under_load_and_started_again(start_daemon: StartDaemon) -> None:
    daemon: Daemon = await start_daemon()
    place = Place(daemon.url, daemon.data_dir)
    binds = f"--http-bind=127.0.0.1:{daemon.http_port}", f"--nats-bind=127.0.0.1:{daemon.nats_port}"
    await place.found("bob")
    async with asyncio.timeout(LONG), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        async with tail(await bob.room("ops")) as reading:
            sending = asyncio.create_task(post(room, TOTAL))
            await reading.until(TOTAL // 3)
            await daemon.kill()
            await no_nats_server(place.data_dir)
            assert not sending.done()
            await start_daemon(*binds)
            acknowledged = await sending
            await reading.until(TOTAL)
            each_once_and_in_order(acknowledged, reading)
        assert [user.handle for user in await ada.users()] == ["ada", "bob"]


async def test_nats_server_does_not_outlive_a_daemon_that_is_killed(start_daemon: StartDaemon) -> None:
    daemon: Daemon = await start_daemon()
    assert len(nats_servers(daemon.data_dir)) == 1
    await daemon.kill()
    await no_nats_server(daemon.data_dir)


async def test_a_removal_while_the_bus_is_down_holds_when_it_is_back(node: tuple[Node, Place]) -> None:
    _, place = node
    await place.found("bob", "cyd")
    async with asyncio.timeout(LONG), place.enter("ada") as ada, place.enter("bob") as bob, place.enter("cyd") as cyd:
        room = await ada.create_room("ops")
        for name in ("bob", "cyd"):
            await room.add(name)
        async with tail(await bob.room("ops")) as at_bob, tail(await cyd.room("ops")) as at_cyd:
            await room.send("before")
            assert await at_cyd.until(1) == ["before"]
            kill_nats_server(place.data_dir)
            await room.remove("cyd")
            await room.send("after")
            assert await at_bob.until(2) == ["before", "after"]
            ended = await at_cyd.end()
        assert type(ended).__name__ == "NotFound"
        assert at_cyd.texts == ["before"]
