"""A node that cannot start leaves nothing running; one that can begins its upkeep."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders import identity
from tests.e2e.conftest import options
from tests.support.people import Place
from tests.support.processes import nats_servers
from unibus.daemon.node import Node
from unibus.errors import StartRefused


async def test_a_port_that_is_taken_ends_all_that_had_begun(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = replace(options(tmp_path / "data"), http_port=taken.getsockname()[1])
        with pytest.raises(StartRefused, match="--http-bind"):
            await Node(told).__aenter__()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert nats_servers(tmp_path / "data") == []


@pytest.mark.parametrize(("store", "sweeps"), [("kv", True), ("sqlite", False)])
async def test_only_a_node_on_kv_sweeps_parts_of_records(tmp_path: Path, store: str, sweeps: bool) -> None:
    async with Node(replace(options(tmp_path / "data"), store=store)):
        names = {task.get_name() for task in asyncio.all_tasks()}
    assert "blobs upkeep" in names
    assert ("parts upkeep" in names) is sweeps


async def test_a_users_key_is_no_operators(tmp_path: Path) -> None:
    told = options(tmp_path / "data")
    async with Node(told) as node:
        await Place(f"http://127.0.0.1:{node.http_port}", told.data_dir).found()
    user = identity("ada").user
    with pytest.raises(StartRefused, match=f"{user} is a user of this bus"):
        await Node(replace(told, nats_operators=(user,))).__aenter__()
    assert nats_servers(told.data_dir) == []
    async with Node(replace(told, nats_operators=(identity("nobody").user,))) as node:
        assert (await node.health())["bus"]["operator"] is True


async def test_what_a_node_owns_and_that_ends_by_itself_fails_it(tmp_path: Path) -> None:
    async def fails() -> None:
        raise ValueError("a watchdog that nobody feeds any more")

    async def ends() -> None: ...

    async def stays() -> None:
        await asyncio.Event().wait()

    for part, error in ((fails, ValueError), (ends, RuntimeError)):
        async with Node(options(tmp_path / part.__name__)) as node:
            staying, going = asyncio.create_task(stays()), asyncio.create_task(part())
            node.own(staying)
            node.own(going)
            with pytest.raises(error):
                await asyncio.wait_for(node.failed, 5)
            assert not staying.done()
        assert staying.cancelled()
