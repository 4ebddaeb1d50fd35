"""Parts that a killed writer left behind go; those of whoever still writes, or has written, stay or are never named."""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.store.kv_servers import WAIT, Server, connect, jetstream, node, running
from tests.store.test_kv_replica import keys, put
from unibus.cluster.ports import free_ports
from unibus.errors import StorageUnavailable
from unibus.store.kv_entry import pack, part_key
from unibus.store.port import Append
from unibus.store.sqlite import to_add

MIB = 1024 * 1024
SECOND = Append("log", 2, b"2" * 3 * MIB)
ROOT = Path(__file__).parents[2]


def later() -> float:
    """A time by which all that is there is old."""
    return time.time() + 3600


@pytest.fixture(scope="module", params=[1, 3])
def servers(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    with running(tmp_path_factory.mktemp("servers"), request.param) as started:
        yield started


@pytest.fixture
async def bucket(servers: list[Server], tmp_path: Path) -> AsyncIterator[str]:
    """A bucket with one large entry."""
    name = uuid4().hex
    async with node(servers[0], tmp_path / "first", name, replicas=len(servers)) as store:
        await store.append(Append("log", 1, b"1" * 2 * MIB))
    yield name
    await jetstream(servers[0], f"STREAM.DELETE.KV_{name}")


@asynccontextmanager
async def writing(servers: list[Server], bucket: str, replica: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A writer in the middle of a large entry, stopped."""
    there = len(await keys(servers[0], bucket, "part.>"))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.store.kv_child", str(servers[-1].port), str(replica), bucket),
        *(str(len(servers)),),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        async with asyncio.timeout(WAIT):
            while len(await keys(servers[0], bucket, "part.>")) < there + 3:
                assert child.returncode is None
        child.send_signal(signal.SIGSTOP)
        assert not await keys(servers[0], bucket, "log.log.2"), "the entry was too small to be stopped in"
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def test_what_a_killed_writer_left_is_swept_and_no_more(
    servers: list[Server], bucket: str, tmp_path: Path
) -> None:
    kept = set(await keys(servers[0], bucket, "part.>"))
    async with writing(servers, bucket, tmp_path / "child") as child:
        child.kill()
    left = set(await keys(servers[0], bucket, "part.>"))
    assert len(left) > len(kept)
    async with node(servers[0], tmp_path / "a", bucket, replicas=len(servers)) as store:
        assert await store.sweep_parts(time.time() - 3600) == 0
        assert set(await keys(servers[0], bucket, "part.>")) == left, "what may still be written was swept"
        assert await store.sweep_parts(later()) == 1
        (filled,) = set(await keys(servers[0], bucket, "part.>")) - kept
        assert filled not in left
        assert await store.sweep_parts(later()) == 0
    async with node(servers[-1], tmp_path / "b", bucket, name="b", replicas=len(servers)) as other:
        assert await other.sweep_parts(later()) == 0
        assert set(await keys(servers[0], bucket, "part.>")) == kept | {filled}
        await other.append(SECOND)
    await check_all_is_read(servers, bucket, tmp_path)


async def test_a_writer_that_was_stopped_and_goes_on_names_no_swept_part(
    servers: list[Server], bucket: str, tmp_path: Path
) -> None:
    async with writing(servers, bucket, tmp_path / "child") as child:
        async with node(servers[0], tmp_path / "a", bucket, replicas=len(servers)) as store:
            assert await store.sweep_parts(later()) == 1
        child.send_signal(signal.SIGCONT)
        assert child.stdout is not None
        async with asyncio.timeout(WAIT):
            said = await child.stdout.readline()
    assert said != b"written\n"
    await check_all_is_read(servers, bucket, tmp_path)


class Holding:
    """A way to a server that holds what a client sends from the first line of an entry on, until `release`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._released = asyncio.Event()
        self.held = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(self._pass(reader, to), self._pass(behind, writer), return_exceptions=True)

    def release(self) -> None:
        self._released.set()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen = b""
        while data := await reader.read(1 << 16):
            seen = (seen + data)[-(1 << 17) :]
            if b".log.log.2 " in seen and b"PUB $KV." in seen:
                self.held.set()
                await self._released.wait()
            writer.write(data)
            await writer.drain()
        writer.close()


async def test_parts_of_an_entry_that_is_on_its_way_are_not_named_by_it(
    servers: list[Server], bucket: str, tmp_path: Path
) -> None:
    """All is written but the entry, which has left its writer and takes its time."""
    holding = Holding(servers[-1].port)
    (port,) = free_ports(1)
    async with await asyncio.start_server(holding.serve, "127.0.0.1", port):
        slow = node(servers[-1], tmp_path / "slow", bucket, replicas=len(servers), dial=lambda: connect(port))
        async with node(servers[0], tmp_path / "a", bucket, name="a", replicas=len(servers)) as store, slow as writer:
            appending = asyncio.create_task(writer.append(SECOND))
            async with asyncio.timeout(WAIT):
                await holding.held.wait()
            assert await store.sweep_parts(later()) == 1
            holding.release()
            with contextlib.suppress(StorageUnavailable):
                await appending
    await check_all_is_read(servers, bucket, tmp_path)


async def test_parts_whose_entry_came_late_stay_however_often_they_are_looked_at(
    servers: list[Server], bucket: str, tmp_path: Path
) -> None:
    """As nodes of earlier versions write it: all parts, what others write meanwhile, and then the entry alone."""
    tag = bytes(range(16))
    stored = pack([to_add(SECOND)], tag)
    for number, part in enumerate(stored.parts):
        await put(servers[0], bucket, part_key(tag, number), part)
    async with node(servers[0], tmp_path / "a", bucket, replicas=len(servers)) as store:
        for position in range(1, 30):
            await store.append(Append("other", position, b"x"))
        await put(servers[0], bucket, "log.log.2", stored.data)
        await store.sync()
        for _ in range(2):
            assert await store.sweep_parts(later()) == 0
    async with node(servers[-1], tmp_path / "b", bucket, replicas=len(servers)) as other:
        assert await other.sweep_parts(later()) == 0
    await check_all_is_read(servers, bucket, tmp_path)


async def check_all_is_read(servers: list[Server], bucket: str, tmp_path: Path) -> None:
    """A node that has nothing yet reads the whole bucket, and the log goes on."""
    async with node(servers[0], tmp_path / "fresh", bucket, name="fresh", replicas=len(servers)) as store:
        last = await store.last("log")
        assert last is not None
        if last.position == 1:
            await store.append(SECOND)
        entries = await store.entries("log", 0, 10)
    assert [entry.position for entry in entries] == [1, 2]
    assert entries[0].value == b"1" * 2 * MIB
    assert entries[1].value[:1] * len(entries[1].value) == entries[1].value
