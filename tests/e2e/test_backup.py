"""Backups of a running bus and what comes back of them: everything, in its place, and nothing that was spent."""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.builders import identity
from tests.e2e.conftest import StartDaemon, StartNode, options
from tests.e2e.load import each_once_and_in_order, post
from tests.support.archives import members
from tests.support.people import Place, tail
from unibus.client.backup import fetch_backup
from unibus.client.founding import found_bus
from unibus.client.joining import join_bus
from unibus.crypto import httpsig
from unibus.crypto.encoding import b64u
from unibus.daemon.node import Node
from unibus.daemon.restore import Restored, restore
from unibus.errors import (
    BootstrapRefused,
    Forbidden,
    InvalidInput,
    InviteUsed,
    InviteWithdrawn,
    JustRestored,
    LimitReached,
    LogRolledBack,
    SignatureStale,
    StartRefused,
    Unreachable,
)
from unibus.store.snapshot import read_snapshot

PATIENCE = 20.0


def names(directory: Path) -> list[str]:
    """What stands in a directory."""
    return sorted(path.name for path in directory.iterdir())


def silent(*_: object) -> None:
    """No progress is shown."""


async def restored(backup: Path, data_dir: Path, *, ago: float = httpsig.WINDOW - 1) -> Restored:
    """Put a backup back, as if that had been done `ago` seconds before now: requests are taken again a second later."""
    return await restore(backup, data_dir, nats_server=None, clock=lambda: time.time() - ago, progress=silent)


@asynccontextmanager
async def serving(data_dir: Path) -> AsyncIterator[Place]:
    """A node on a restored directory, from when on it takes requests."""
    async with Node(options(data_dir)) as node:
        place = Place(f"http://127.0.0.1:{node.http_port}", data_dir)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    async with place.enter("ada"):
                        break
                except (JustRestored, SignatureStale):
                    await asyncio.sleep(0.1)  # nothing tells when a second is over but the clock
        yield place


async def content(node: Node) -> dict[str, Any]:
    """All that a node's store holds, but for what it notes of itself."""
    logs = [log for log in await node.store.logs("", "", 1000) if not log.startswith(("audit/", "restores"))]
    return {
        "logs": {log: await node.store.entries(log, 0, 10_000) for log in logs},
        "keys": {
            (log, user): await node.store.attachments(log, user, 0, 1000)
            for log in logs
            for user in node.books.directory.users
        },
        "marks": await node.store.marks("", "", 1000),
    }


async def test_a_backup_under_load_comes_back_whole(node: tuple[Node, Place], tmp_path: Path) -> None:
    running, place = node
    await place.found("bob", "eve")
    data = os.urandom(300_000)
    (tmp_path / "source").write_bytes(data)
    async with place.enter("ada", tmp_path / "ada.state") as ada:
        room = await ada.create_room("ops")
        await room.add("bob")
        blob = await room.put_blob(tmp_path / "source", "plan")
        loading = asyncio.create_task(post(room, 3000))
        changing = asyncio.create_task(_change(place))
        async with tail(room) as reading:
            await reading.until(200)
            delivered = len(reading.got)
            await fetch_backup(ada, tmp_path / "backup", silent)
            acknowledged = await loading
            await reading.until(3000)
            each_once_and_in_order(acknowledged, reading)
            positions = reading.positions
        await changing
    before = await content(running)
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o600
    assert names(tmp_path) == ["ada.state", "backup", "data", "source"]
    assert not (place.data_dir / "backup").exists()

    await restored(tmp_path / "backup", tmp_path / "again")
    async with serving(tmp_path / "again") as again, again.enter("bob") as bob:
        found = await bob.room("ops")
        await found.get_blob(blob, tmp_path / "target")
        assert (tmp_path / "target").read_bytes() == data
        async with tail(found) as reading:
            await reading.until(delivered)
            assert reading.positions == positions[: len(reading.got)]
            assert reading.refused == []
        assert await found.send("on") > reading.positions[-1]
    async with Node(options(tmp_path / "again")) as again_node:
        after = await content(again_node)
    for log, entries in after["logs"].items():
        assert entries == before["logs"][log][: len(entries)]
    assert after["logs"]["directory"]


async def _change(place: Place) -> None:
    """Changes of another admin's making, one after the other."""
    async with place.enter("ada") as ada:
        for number in range(10):
            await ada.create_room(f"room-{number}")


async def test_at_rest_everything_is_the_same_and_clients_go_on(node: tuple[Node, Place], tmp_path: Path) -> None:
    running, place = node
    await place.found("bob")
    state = tmp_path / "bob.state"
    async with place.enter("ada") as ada:
        room = await ada.create_room("ops")
        await room.add("bob")
        positions = [await room.send(str(number)) for number in range(5)]
        async with place.enter("bob", state) as bob:
            await bob.room("ops")
        await fetch_backup(ada, tmp_path / "backup", silent)
        before = await content(running)
    done = await restored(tmp_path / "backup", tmp_path / "again")
    assert (done.bus, done.handle, done.rooms, done.messages) == (running.books.directory.bus, "ada", 1, 5)
    async with (
        serving(tmp_path / "again") as again,
        again.enter("bob", state) as bob,
        tail(await bob.room("ops"), positions[1]) as reading,
    ):
        assert await reading.until(3) == ["2", "3", "4"]
        assert reading.positions == positions[2:]
    async with Node(options(tmp_path / "again")) as again_node:
        assert await content(again_node) == before
        assert again_node.founded
        assert not again_node.data_dir.token_path.exists()


async def test_what_is_newer_than_the_backup_is_missed_by_who_saw_it(node: tuple[Node, Place], tmp_path: Path) -> None:
    _, place = node
    await place.found()
    async with place.enter("ada", tmp_path / "ada.state") as ada:
        await fetch_backup(ada, tmp_path / "backup", silent)
        await ada.admit("bob", identity("bob").card())
    await restored(tmp_path / "backup", tmp_path / "again")
    async with serving(tmp_path / "again") as again:
        with pytest.raises(LogRolledBack):
            async with again.enter("ada", tmp_path / "ada.state"):
                pytest.fail("she was let in without noticing")


async def test_nothing_that_was_spent_is_good_again(node: tuple[Node, Place], tmp_path: Path) -> None:
    running, place = node
    token = place.token
    await place.found("bob")
    async with place.enter("ada") as ada:
        await fetch_backup(ada, tmp_path / "backup", silent)
        bus = ada.id
    port = running.http_port
    url = f"http://127.0.0.1:{port}/v1/directory/records?after=0"

    def signed(created: float, nonce: int) -> dict[str, str]:
        key = identity("ada").signing
        return httpsig.sign(key, "GET", url, b"", bus=bus, created=int(created), nonce=b64u(bytes([nonce]) * 16))

    now = time.time()
    slow, right, fast = signed(now - 30, 1), signed(now, 2), signed(now + 30, 3)
    async with aiohttp.ClientSession() as session:

        async def outcome(headers: dict[str, str]) -> str:
            async with session.get(url, headers=headers) as response:
                found = await response.json(content_type=None)
                return "taken" if response.status == 200 else str(found["type"]).rpartition(":")[2]

        assert [await outcome(headers) for headers in (slow, right, fast)] == ["taken"] * 3
        await running.__aexit__(None, None, None)
        await restored(tmp_path / "backup", tmp_path / "soon", ago=0)
        async with Node(replace(options(tmp_path / "soon"), http_port=port)):
            replayed = [await outcome(headers) for headers in (slow, right, fast, signed(time.time(), 4))]
            assert replayed == ["just-restored"] * 4
        await restored(tmp_path / "backup", tmp_path / "later")
        async with Node(replace(options(tmp_path / "later"), http_port=port)) as later:
            number = 10
            while await outcome(signed(time.time(), number := number + 1)) != "taken":  # noqa: ASYNC110 - only the clock tells
                await asyncio.sleep(0.1)
            assert [await outcome(headers) for headers in (slow, right)] == ["signature-stale"] * 2
            with pytest.raises(BootstrapRefused):
                await found_bus(f"http://127.0.0.1:{port}", identity("eve"), token, "eve")
            assert not later.data_dir.token_path.exists()


async def test_a_backup_has_no_nonces(node: tuple[Node, Place], tmp_path: Path) -> None:
    running, place = node
    await place.found()
    secret = os.urandom(16).hex()
    assert await running.store.claim(f"nonce/{secret}", 2**40)
    async with place.enter("ada") as ada:
        await fetch_backup(ada, tmp_path / "backup", silent)
    assert secret.encode() not in (tmp_path / "backup").read_bytes()
    (tmp_path / "store").write_bytes(members(tmp_path / "backup")["store.sqlite3"])
    with read_snapshot(tmp_path / "store") as snapshot:
        assert "directory" in [log for log, _, _ in snapshot.heads()]


async def test_only_an_admin_gets_one_and_only_one_at_a_time(node: tuple[Node, Place], tmp_path: Path) -> None:
    running, place = node
    await place.found("bob")
    async with place.enter("bob") as bob, place.enter("ada") as ada:
        with pytest.raises(Forbidden):
            await fetch_backup(bob, tmp_path / "bob", silent)
        outcomes = await asyncio.gather(
            *(fetch_backup(ada, tmp_path / name, silent) for name in ("first", "second")), return_exceptions=True
        )
        assert sorted(map(type, outcomes), key=str) == sorted([int, LimitReached], key=str)
        with pytest.raises(InvalidInput, match="already"):
            await fetch_backup(ada, tmp_path / "first", silent)
        trail = await running.audit.read(0, 100)
    assert [(entry.outcome, entry.actor) for entry in trail if "backup" in entry.action] == [
        ("refused", identity("bob").user),
        ("ok", identity("ada").user),
        ("refused", identity("ada").user),
    ]
    assert names(tmp_path) == ["data", "first"]


async def test_an_admin_who_is_revoked_gets_no_more_of_it(node: tuple[Node, Place], tmp_path: Path) -> None:
    _, place = node
    await place.found()
    async with place.enter("ada") as ada:
        await ada.admit("ann", identity("ann").card(), "admin")
        room = await ada.create_room("ops")
        (tmp_path / "source").write_bytes(bytes(64 * 2**20))
        await room.put_blob(tmp_path / "source", "zeros")
        async with place.enter("ann") as ann, ann.api.exchange("GET", URL("/v1/backup")) as response:
            await response.content.readexactly(2**16)
            await ada.revoke("ann")
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    assert not (place.data_dir / "backup").exists()


async def test_a_blob_that_is_damaged_on_disk_is_not_backed_up_as_if_it_were_whole(
    node: tuple[Node, Place], tmp_path: Path
) -> None:
    _, place = node
    await place.found()
    async with place.enter("ada") as ada:
        (tmp_path / "source").write_bytes(os.urandom(100_000))
        blob = await (await ada.create_room("ops")).put_blob(tmp_path / "source", "noise")
        (data,) = place.data_dir.glob(f"blobs/held/*/{blob}/data")
        data.write_bytes(b"?" + data.read_bytes()[1:])
        with pytest.raises(Unreachable):
            await fetch_backup(ada, tmp_path / "backup", silent)
    assert names(tmp_path) == ["data", "source"]
    assert not (place.data_dir / "backup").exists()


async def test_a_kill_in_the_middle_leaves_nothing_behind(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = await start_daemon()
    place = Place(daemon.url, daemon.data_dir)
    await place.found()
    (tmp_path / "source").write_bytes(os.urandom(32 * 2**20))
    begun = asyncio.Event()
    async with place.enter("ada") as ada:
        await (await ada.create_room("ops")).put_blob(tmp_path / "source", "noise")
        fetching = asyncio.create_task(fetch_backup(ada, tmp_path / "backup", lambda *_: begun.set()))
        await begun.wait()
        await daemon.kill()
        with pytest.raises(Unreachable):
            await fetching
    left = (daemon.data_dir / "backup").exists()
    assert names(tmp_path) == ["data", "source"]
    await start_daemon()
    assert left
    assert not (daemon.data_dir / "backup").exists()


async def test_a_directory_in_use_or_with_a_bus_is_left_alone(node: tuple[Node, Place], tmp_path: Path) -> None:
    _, place = node
    await place.found()
    async with place.enter("ada") as ada:
        await fetch_backup(ada, tmp_path / "backup", silent)
    with pytest.raises(StartRefused, match="uses"):
        await restored(tmp_path / "backup", place.data_dir)
    await restored(tmp_path / "backup", tmp_path / "again")
    before = sorted(path.name for path in (tmp_path / "again").rglob("*"))
    with pytest.raises(StartRefused, match="holds a bus already"):
        await restored(tmp_path / "backup", tmp_path / "again")
    assert sorted(path.name for path in (tmp_path / "again").rglob("*")) == before


@pytest.mark.parametrize("moved", [(), ("nats",), ("nats", "blobs"), ("nats", "blobs", "unibus.sqlite3")])
async def test_a_restore_that_was_decided_is_finished_at_the_next_start(
    start_node: StartNode, data_dir: Path, tmp_path: Path, moved: tuple[str, ...]
) -> None:
    async with Node(options(tmp_path / "first")) as first:
        place = Place(f"http://127.0.0.1:{first.http_port}", tmp_path / "first")
        await place.found("bob")
        async with place.enter("ada") as ada:
            await fetch_backup(ada, tmp_path / "backup", silent)
    await restored(tmp_path / "backup", data_dir)
    (data_dir / "restored").mkdir()
    for name in {"nats", "blobs", "unibus.sqlite3"} - set(moved):
        (data_dir / name).rename(data_dir / "restored" / name)
    node = await start_node()
    assert node.books.directory.by_handle("bob") is not None
    assert not (data_dir / "restored").exists()


async def test_a_restore_that_was_cut_is_undone_at_the_next_start(start_node: StartNode, data_dir: Path) -> None:
    (data_dir / "restoring" / "nats").mkdir(parents=True)
    (data_dir / "restoring" / "unibus.sqlite3").write_bytes(b"half of it")
    node = await start_node()
    assert not node.founded
    assert not (data_dir / "restoring").exists()


async def test_a_used_invite_stays_used(node: tuple[Node, Place], tmp_path: Path) -> None:
    _, place = node
    await place.found()
    async with place.enter("ada") as ada:
        invite = await ada.invite()
        await join_bus(invite, identity("bob"), "bob")
        await fetch_backup(ada, tmp_path / "backup", silent)
    await restored(tmp_path / "backup", tmp_path / "again")
    async with serving(tmp_path / "again") as again:
        with pytest.raises(InviteUsed):
            await join_bus(type(invite)(invite.bus, invite.key, again.url), identity("eve"), "eve")


async def test_an_invite_from_before_a_restore_may_have_been_used_and_is_taken_no_more(
    node: tuple[Node, Place], tmp_path: Path
) -> None:
    _, place = node
    await place.found()
    async with place.enter("ada") as ada:
        invite = await ada.invite()
        await fetch_backup(ada, tmp_path / "backup", silent)
        await join_bus(invite, identity("bob"), "bob")
    await restored(tmp_path / "backup", tmp_path / "again")
    async with serving(tmp_path / "again") as again:
        with pytest.raises(InviteWithdrawn, match="restored"):
            await join_bus(type(invite)(invite.bus, invite.key, again.url), identity("eve"), "eve")
        async with again.enter("ada") as ada:
            await asyncio.sleep(1.1)  # an invite is as old as its second
            fresh = await ada.invite()
        assert await join_bus(type(fresh)(fresh.bus, fresh.key, again.url), identity("eve"), "eve") == "eve"
