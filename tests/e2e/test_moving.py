"""A bus moves from a node that is alone into the KV of another, by the real command between real daemons."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from tests.builders import identity
from tests.e2e.conftest import options
from tests.support.daemon import Daemon, refused, spawn
from tests.support.moved import Kept, goes_on, make, migrate, start
from tests.support.people import Place
from tests.support.processes import no_nats_server
from tests.support.stopping import stopping
from unibus import connect
from unibus.client.founding import found_bus
from unibus.client.health import fetch_health
from unibus.client.move_target import reach_target, target_url
from unibus.daemon.node import Node
from unibus.errors import JustRestored, StorageUnavailable

pytestmark = pytest.mark.slow

AGES = 61.0
"""Seconds after which no request from before can be used again, and all others are taken."""
Start = Callable[..., Awaitable[Daemon]]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """A bus on sqlite."""
    home = tmp_path_factory.mktemp("kept")

    async def fill() -> Kept:
        async with Node(options(home / "data")) as node:
            return await make(Place(f"http://127.0.0.1:{node.http_port}", home / "data"), home)

    return asyncio.run(fill())


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts daemons in directories of `tmp_path`, with a kv of their own unless flags say otherwise."""
    async with AsyncExitStack() as ending:

        async def begin(name: str, *flags: str, **variables: str) -> Daemon:
            daemon = Daemon(await spawn(tmp_path / name, *(flags or ("--store", "kv")), **variables), tmp_path / name)

            async def end() -> None:
                if daemon.process.returncode is None:
                    await daemon.kill()
                await no_nats_server(daemon.data_dir)

            ending.push_async_callback(end)
            await daemon.ready()
            return daemon

        yield begin


@pytest.fixture
async def node(begin: Start) -> Daemon:
    """A node with a kv that has no bus yet."""
    daemon = await begin("node")
    await daemon.heard("this bus has no users yet")
    return daemon


def token(daemon: Daemon) -> Path:
    """Where its bootstrap token is."""
    return daemon.data_dir / "bootstrap-token"


async def stage(daemon: Daemon) -> str:
    """How far the node says that a move is."""
    async with reach_target(target_url(daemon.url, None), token(daemon).read_text().strip, None) as target:
        return (await target.look()).stage


def said(error: str) -> str:
    """The one line of a command that failed."""
    (line,) = error.splitlines()
    return line.removeprefix("unibus: ")


def contents(path: Path) -> dict[str, bytes]:
    """All files in a directory but the lock."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


async def test_a_bus_is_moved_and_its_members_go_on(kept: Kept, node: Daemon, tmp_path: Path) -> None:
    source = kept.copy(tmp_path / "source")
    before = contents(source / "blobs"), (source / "unibus.sqlite3").read_bytes()
    dry = await migrate(source, node.url, token(node), "--dry-run")
    (told,) = dry.json
    assert (dry.status, told["bus"], told["blobs"], told["messages"]) == (0, kept.bus, 1, 6)
    assert not (source / "moved").exists()
    assert await stage(node) == "none"
    shutil.rmtree(source)
    kept.copy(source, stood_still_for=AGES)
    moved = await migrate(source, node.url, token(node))
    assert (moved.status, moved.err) == (0, "")
    assert moved.json == [{**told, "dry_run": False}]
    assert not token(node).exists()
    assert (contents(source / "blobs"), (source / "unibus.sqlite3").read_bytes()) == before
    assert not (source / "moving").exists()
    await goes_on(kept, node.url, tmp_path / "members")
    again = await migrate(source, node.url, tmp_path / "no-token")
    assert (again.status, again.json) == (0, [{"bus": kept.bus, "to": node.url, "already": True}])
    status, why = await refused(source)
    assert status == 1
    assert f"was moved to {node.url}" in why


async def test_a_node_with_a_kv_of_its_own_is_a_source_too(begin: Start, node: Daemon, tmp_path: Path) -> None:
    """Also one that was killed: what its copy of the records lacks then is in its nats-server."""
    alone = await begin("alone")
    await alone.heard("this bus has no users yet")
    kept = await make(Place(alone.url, alone.data_dir), tmp_path)
    await alone.kill()
    await no_nats_server(alone.data_dir)
    assert (await migrate(alone.data_dir, node.url, token(node), "--dry-run")).status == 0
    again = await begin("alone")  # nothing tells that somebody has looked
    async with connect(again.url, identity("ada")) as ada:
        assert ada.id == kept.bus
    assert not (await fetch_health(again.url, 5.0))["reasons"]
    await again.kill()
    await no_nats_server(alone.data_dir)
    source = kept.copy(tmp_path / "source", stood_still_for=AGES - 4)
    assert (await migrate(source, node.url, token(node))).status == 0
    await asyncio.sleep(4)  # what was used up to the end is not good until a window later
    await goes_on(kept, node.url, tmp_path / "members")
    status, why = await refused(source, "--store", "kv")
    assert (status, "was moved to" in why) == (1, True)


CUTS = (
    ("PUT /v1/move/manifest", None),
    ("PUT /v1/move/records", 2000),
    ("PUT /v1/move/records", None),
    ("PUT /v1/move/rooms", 30_000),
    ("PUT /v1/move/messages", None),
    ("POST /v1/move", None),
)
"""Where a move is broken off: after so many bytes of a request, or after all of it, its answer unheard."""


async def test_a_move_whose_command_is_killed_goes_on(kept: Kept, node: Daemon, tmp_path: Path) -> None:
    source = kept.copy(tmp_path / "source")
    for line, some in CUTS:
        async with stopping(node.http_port, line, some) as proxy:
            command = await start(source, proxy.url, token(node))
            await proxy.reached.wait()
            command.kill()
            await command.communicate()
        status, why = await refused(source)
        assert (status, "is being moved to" in why) == (1, True)
    done = await migrate(source, node.url, tmp_path / "spent")
    assert (done.status, done.json[0]["already"]) == (0, True)  # the last one had been heard, to the end
    with pytest.raises(JustRestored):
        async with connect(node.url, identity("ada")):
            pass


@pytest.mark.parametrize(("line", "some"), [CUTS[2], ("POST /v1/move", 1000)])
async def test_a_move_whose_node_is_killed_goes_on(
    kept: Kept, begin: Start, node: Daemon, tmp_path: Path, line: str, some: int | None
) -> None:
    source = kept.copy(tmp_path / "source", stood_still_for=AGES)
    async with stopping(node.http_port, line, some) as proxy:
        command = await start(source, proxy.url, token(node))
        await proxy.reached.wait()
        await node.kill()
    out, error = await command.communicate()
    assert (command.returncode, out) == (1, b"")
    assert "cannot reach" in said(error.decode())
    await no_nats_server(node.data_dir)
    again = await begin("node")
    await again.heard("this bus has no users yet")
    with pytest.raises(StorageUnavailable, match="is being moved in here"):
        await found_bus(again.url, identity("eve"), token(again).read_text().strip(), "eve", deadline=1.0)
    assert (await migrate(source, again.url, token(again))).json[0]["resumed"]
    await goes_on(kept, again.url, tmp_path / "members")


async def test_what_is_not_to_be_moved_is_refused_in_a_line(kept: Kept, node: Daemon, tmp_path: Path) -> None:
    source = kept.copy(tmp_path / "source")
    wrong, empty = tmp_path / "wrong", tmp_path / "empty"
    wrong.write_text("wrong")
    empty.mkdir()

    async def refusal(data_dir: Path, key: Path, url: str = node.url) -> str:
        ran = await migrate(data_dir, url, key)
        assert (ran.status, ran.out) == (1, "")
        return said(ran.err)

    assert "token is wrong" in await refusal(source, wrong)
    assert "cannot read the bootstrap token" in await refusal(source, tmp_path / "missing")
    assert "holds no bus" in await refusal(empty, token(node))
    assert "in the clear" in await refusal(source, token(node), "http://192.0.2.1:8470")
    assert "--ca" in await refusal(source, token(node), "https://192.0.2.1:8470")
    with closing(sqlite3.connect(source / "unibus.sqlite3")) as db:
        triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        db.execute("UPDATE entries SET value = CAST(replace(value, 'A', 'B') AS BLOB) WHERE position = 2")
        for _, statement in triggers:
            db.execute(statement)
        db.commit()
    assert "does not hold" in await refusal(source, token(node))
    assert not (source / "moved").exists()
    assert await stage(node) == "none"


async def test_a_bus_that_is_in_use_is_not_moved(begin: Start, node: Daemon) -> None:
    used = await begin("used", "--store", "sqlite")
    ran = await migrate(used.data_dir, node.url, token(node))
    assert (ran.status, "stop it" in said(ran.err)) == (1, True)


async def test_another_bus_stays_as_it_is(kept: Kept, node: Daemon, tmp_path: Path) -> None:
    source, key = kept.copy(tmp_path / "source"), tmp_path / "token"
    shutil.copy(token(node), key)
    await found_bus(node.url, identity("eve"), key.read_text().strip(), "eve")
    ran = await migrate(source, node.url, key)
    assert (ran.status, "holds another bus" in said(ran.err)) == (1, True)
    assert not (source / "moved").exists()
    async with connect(node.url, identity("eve")) as eve:
        assert eve.id != kept.bus
