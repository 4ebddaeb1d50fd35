"""The server takes its configuration in again: who is connected stays, unless the policy has changed its mind.

nats-server ends every connection whose user its configuration does not name, and asks the callout about the others
again. So all members share one name there, which must open nothing to anybody.
"""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.bus.conftest import StartStage
from tests.bus.stage import OTHER_ROOM, ROOM, Member, Stage, eventually, shake_hands, signed
from tests.support.processes import nats_servers
from unibus.bus.config import LOGIN
from unibus.bus.options import BusAuth

MANY = 60


async def reload(stage: Stage, data_dir: Path) -> None:
    """Have the server read its configuration, and return when it has."""
    before = taken_in(stage)
    (pid,) = nats_servers(data_dir)
    os.kill(pid, signal.SIGHUP)
    await eventually(lambda: taken_in(stage) > before)


def taken_in(stage: Stage) -> int:
    return sum("Reloaded server configuration" in str(entry.get("line")) for entry in stage.log.entries)


@pytest.mark.parametrize("mode", list(BusAuth))
async def test_who_is_connected_stays_and_keeps_its_rights(
    start_stage: StartStage, tmp_path: Path, mode: BusAuth
) -> None:
    stage = await start_stage(mode)
    async with AsyncExitStack() as stack:
        members = [await stack.enter_async_context(stage.connect(stage.member(ROOM))) for _ in range(MANY)]
        named = await stack.enter_async_context(stage.connect(stage.member(ROOM, OTHER_ROOM), f"rooms={ROOM}"))
        reading = await members[0].read()
        for _ in range(3):
            await reload(stage, tmp_path)
        assert stage.plane.status()["connections"] == MANY + 1
        await members[1].publish(data=b"after")
        assert await reading.bodies(1) == [b"after"]
        assert not any(connection.closed.is_set() for connection in (*members, named))
        if mode is BusAuth.ENFORCE:
            await named.client.publish(named.member.sender(OTHER_ROOM), b"")
            assert "permissions violation" in await named.refused()
        await stage.plane.cut(members[0].member.user)
        await members[0].closed.wait()


async def test_who_lost_its_rights_meanwhile_does_not(stage: Stage, tmp_path: Path) -> None:
    async with stage.connect(stage.member(ROOM)) as stays, stage.connect(stage.member(ROOM)) as leaves:
        del stage.policy.rooms[leaves.member.user]
        await reload(stage, tmp_path)
        await leaves.closed.wait()
        assert not stays.closed.is_set()
        await eventually(lambda: stage.plane.status()["connections"] == 1)


async def test_a_cut_during_a_reload_reaches_its_connection(stage: Stage, tmp_path: Path) -> None:
    async with stage.connect(stage.member(ROOM)) as c:
        stage.policy.gate.clear()
        await stage.policy.asked.get()
        (pid,) = nats_servers(tmp_path)
        os.kill(pid, signal.SIGHUP)
        await stage.policy.asked.get()
        await stage.plane.cut(c.member.user)
        stage.policy.gate.set()
        await c.closed.wait()
    assert stage.plane.status()["restarts"] == 0


def as_login(member: Member, nonce: str, password: str) -> Mapping[str, object]:
    """The common name, with the rest of an honest login."""
    return {"user": LOGIN, "pass": password, "sig": signed(member, nonce)["sig"]}


@pytest.mark.parametrize("password", ["", "$2a$04$"])
async def test_the_common_name_opens_nothing(stage: Stage, tmp_path: Path, password: str) -> None:
    member = stage.member(ROOM)
    port = stage.plane.client_port
    async with stage.connect(member):
        for _ in range(2):
            assert "Authorization" in await shake_hands(port, lambda _: {"user": LOGIN, "pass": password})
            assert "Authorization" in await shake_hands(port, lambda nonce: as_login(member, nonce, password))
            await reload(stage, tmp_path)


async def test_what_the_daemon_asks_while_the_server_reloads_is_answered(stage: Stage, tmp_path: Path) -> None:
    async with stage.connect(stage.member(ROOM)) as c:
        await c.publish()
        done = asyncio.Event()

        async def keep_asking() -> None:
            while not done.is_set():
                await stage.plane.retain(ROOM, 3600, None)

        asking = asyncio.create_task(keep_asking())
        for _ in range(10):
            await reload(stage, tmp_path)
        done.set()
        await asking
        assert not c.closed.is_set()
    assert [entry for entry in stage.log.entries if entry["event"] == "a room's old messages were not dropped"] == []
    assert stage.plane.status()["restarts"] == 0
