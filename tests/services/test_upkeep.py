"""What a node does now and then, on real stores and a real bus: it goes on by itself, and one of several does it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from tests.bus.stage import OTHER_ROOM, ROOM, Logbook, Stage, TablePolicy, eventually
from tests.services.running import Node, NotedEffects
from tests.store import kv_servers
from unibus.bus.options import BusAuth, BusOptions
from unibus.bus.plane import BusPlane
from unibus.crypto.encoding import b64u
from unibus.errors import StorageUnavailable
from unibus.model.bodies import RoomRetention
from unibus.services.blobs import GRACE, Blobs
from unibus.services.gate import retention_mark
from unibus.services.upkeep import drop_old_messages, forget_claims, recount_blobs, sweep_blobs, sweep_parts
from unibus.store.blob_files import FileBlobs
from unibus.store.blob_port import Place
from unibus.store.port import Append, Store
from unibus.tasks import end_tasks

SOON = 0.01  # seconds between two rounds here


@asynccontextmanager
async def going_on(*loops: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Loops without end, while this is entered; one that ends after all fails the test."""
    tasks = [asyncio.create_task(loop) for loop in loops]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        await end_tasks(*tasks)


class Rounds:
    """A `ready` that counts how often it was asked, and can refuse; `of` gives what waits for more rounds."""

    def __init__(self) -> None:
        self.number = 0
        self.refusal: StorageUnavailable | None = None

    def __call__(self) -> None:
        self.number += 1
        if self.refusal is not None:
            raise self.refusal

    async def more(self, number: int = 3) -> None:
        wanted = self.number + number
        await eventually(lambda: self.number >= wanted)


async def keep(store: Store, room: str, limits: RoomRetention) -> None:
    """Note what `room` keeps, as its record does."""
    log = f"test/{room}"
    await store.append(Append(log, 1, b"x", {}, {retention_mark(room): limits.model_dump_json().encode()}))


async def test_messages_go_when_they_are_too_old(node: Node, tmp_path: Path) -> None:
    later = [0.0]
    bus = BusOptions(tmp_path, port=0, mode=BusAuth.ENFORCE)
    policy, log = TablePolicy(), Logbook()
    plane = BusPlane(bus, policy, log.logger, clock=lambda: time.time() + later[0])
    await plane.start()
    try:
        stage = Stage(plane, policy, log)
        await keep(node.store, ROOM, RoomRetention(seconds=60))
        async with stage.connect(stage.member(ROOM, OTHER_ROOM)) as connection:
            await connection.publish(ROOM, b"old")
            await connection.publish(OTHER_ROOM, b"kept")
            rounds = Rounds()
            clock: Callable[[], float] = lambda: time.time() * 1e6  # noqa: E731 - each round is in a span of its own
            async with going_on(drop_old_messages(node.store, plane, clock, rounds, SOON)):
                await rounds.more()
                reading = await connection.read(ROOM)
                assert await reading.bodies(1) == [b"old"]  # not yet
                later[0] = 120.0
                await rounds.more()
            later[0] = 0.0
            await connection.publish(ROOM, b"new")
            assert await (await connection.read(ROOM)).bodies(1) == [b"new"]
            assert await (await connection.read(OTHER_ROOM)).bodies(1) == [b"kept"]
    finally:
        await plane.stop()


async def test_while_a_bus_is_moved_in_nothing_is_dropped(node: Node) -> None:
    await keep(node.store, ROOM, RoomRetention(seconds=60))
    rounds, effects = Rounds(), NotedEffects()
    rounds.refusal = StorageUnavailable("a bus is being moved in here")
    async with going_on(drop_old_messages(node.store, effects, time.time, rounds, SOON)):
        await rounds.more()
        assert effects.calls == []
        rounds.refusal = None
        await eventually(lambda: bool(effects.calls))
    assert set(effects.calls) == {("retain", ROOM, 60, None)}


async def test_expired_nonces_are_dropped_and_others_stay(node: Node) -> None:
    now = int(time.time())
    for name, until in (("old", now + 10), ("fresh", now + 1000)):
        assert await node.store.claim(f"nonce/{name}", until)
    dropped: asyncio.Queue[int] = asyncio.Queue()

    def clock() -> float:
        dropped.put_nowait(0)
        return now + 100.0

    async with going_on(forget_claims(node.store, clock, SOON)):
        async with asyncio.timeout(10):
            await dropped.get()
            await dropped.get()  # the first round is over
    assert await node.store.forget_claims(now + 100) == 0
    assert await node.store.forget_claims(now + 2000) == 1


@pytest.fixture
async def files(tmp_path: Path) -> FileBlobs:
    return await FileBlobs.open(tmp_path / "blobs")


async def test_stale_uploads_are_swept(node: Node, files: FileBlobs) -> None:
    await files.begin(Place(ROOM, b64u(sha256(b"x").digest()), "U"), 100)
    later = [0.0]
    blobs = Blobs(node.books, node.gate, files, node.audit, lambda: time.time() + later[0])
    await blobs.recount()
    rounds = Rounds()
    async with going_on(sweep_blobs(node.store, blobs, lambda: time.time() * 1e6, rounds, SOON)):
        await rounds.more()
        assert blobs.stored_bytes > 0
        later[0] = GRACE + 60
        await eventually(lambda: blobs.stored_bytes == 0)
    assert (await files.survey())[0] == []


async def test_a_store_that_fails_for_a_while_ends_no_round(node: Node, files: FileBlobs) -> None:
    blobs = Blobs(node.books, node.gate, files, node.audit, lambda: time.time() + GRACE + 60)
    await files.begin(Place(ROOM, b64u(sha256(b"x").digest()), "U"), 100)
    await blobs.recount()
    rounds = Rounds()
    rounds.refusal = StorageUnavailable("not now")
    async with going_on(sweep_blobs(node.store, blobs, time.time, rounds, SOON)):
        await rounds.more()
        assert blobs.stored_bytes > 0
        rounds.refusal = None
        await eventually(lambda: blobs.stored_bytes == 0)


async def test_what_another_node_stored_comes_to_count(node: Node, files: FileBlobs) -> None:
    blobs = Blobs(node.books, node.gate, files, node.audit, time.time)
    await blobs.recount()
    async with going_on(recount_blobs(blobs, SOON)):
        place = Place(ROOM, b64u(sha256(b"x").digest()), "U")
        await files.begin(place, 100)  # past this node's own count
        await eventually(lambda: blobs.stored_bytes > 100)
        await files.abandon(place)
        await eventually(lambda: blobs.stored_bytes == 0)


async def test_what_writers_left_is_swept_a_day_later_and_after_a_store_that_failed(node: Node) -> None:
    befores: list[float] = []
    failing = [StorageUnavailable("not now")]

    async def sweep(before: float) -> int:
        befores.append(before)
        if failing:
            raise failing.pop()
        return 1

    now = time.time() * 1e6
    rounds = Rounds()
    async with going_on(sweep_parts(node.store, sweep, lambda: now + rounds.number, rounds, SOON)):
        await eventually(lambda: len(befores) > 2)
    assert all(now - 86_400 < before < now - 86_400 + rounds.number + 1 for before in befores)


async def test_a_sweep_that_failed_is_done_in_the_same_span_and_then_not_again(node: Node) -> None:
    tried, rounds, now = Rounds(), Rounds(), time.time()
    tried.refusal = StorageUnavailable("not now")

    async def sweep(_before: float) -> int:
        tried()
        return 0

    async with going_on(sweep_parts(node.store, sweep, lambda: now, rounds, SOON)):
        await tried.more()
        tried.refusal = None
        await rounds.more()
        done = tried.number
        await rounds.more()
        assert tried.number == done


async def test_of_three_nodes_one_does_it(tmp_path: Path) -> None:
    effects, rounds = NotedEffects(), [Rounds() for _ in range(3)]
    with kv_servers.running(tmp_path, 1) as [server]:
        async with (
            kv_servers.node(server, tmp_path / "a", "shared", name="a") as a,
            kv_servers.node(server, tmp_path / "b", "shared", name="b") as b,
            kv_servers.node(server, tmp_path / "c", "shared", name="c") as c,
        ):
            await keep(a, ROOM, RoomRetention(seconds=60))
            for store in (b, c):
                await store.sync()
            now = [time.time()]
            loops = [
                drop_old_messages(store, effects, lambda: now[0], ready, SOON)
                for store, ready in zip((a, b, c), rounds, strict=True)
            ]
            async with going_on(*loops):
                for span in (1, 2):
                    for ready in rounds:
                        await ready.more()
                    assert len(effects.calls) == span
                    now[0] += SOON
