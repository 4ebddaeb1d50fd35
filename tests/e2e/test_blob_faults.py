"""Cuts, kills and a full disk in the middle of a blob: what goes on, goes on; what is refused leaves nothing behind."""

import asyncio
import os
import resource
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.people import Place
from unibus import Room
from unibus.client.blob_source import PART
from unibus.errors import BlobInvalid, InvalidInput, StorageUnavailable

SIZE = 3 * PART


class Cut(Exception):
    """Ends an attempt where a test wants it ended."""


class Halt:
    """A progress that notes how far it was, and ends the attempt once `at` bytes are done."""

    def __init__(self, at: int = 2**63) -> None:
        self.at = at
        self.seen: list[int] = []
        self.reached = asyncio.Event()

    def __call__(self, done: int, _all: int) -> None:
        self.seen.append(done)
        if done >= self.at:
            self.reached.set()
            raise Cut


class Watch(Halt):
    """A progress that only tells that `at` bytes are done."""

    def __call__(self, done: int, _all: int) -> None:
        self.seen.append(done)
        if done >= self.at:
            self.reached.set()


@dataclass
class Scene:
    daemon: Daemon
    place: Place
    room: Room
    source: Path
    data: bytes

    @property
    def binds(self) -> tuple[str, str]:
        """The flags that make another daemon listen where this one did."""
        daemon = self.daemon
        return f"--http-bind=127.0.0.1:{daemon.http_port}", f"--nats-bind=127.0.0.1:{daemon.nats_port}"

    def kept(self) -> list[str]:
        """The files that the daemon keeps of blobs and uploads."""
        root = self.place.data_dir / "blobs"
        return sorted(path.name for path in root.rglob("*") if path.is_file())


def names(path: Path) -> list[str]:
    """What stands in a directory."""
    return sorted(entry.name for entry in path.iterdir())


def alter(path: Path) -> None:
    """Change the first byte of a file."""
    path.write_bytes(b"?" + path.read_bytes()[1:])


@pytest.fixture
async def scene(start_daemon: StartDaemon, tmp_path: Path) -> AsyncIterator[Scene]:
    daemon = await start_daemon()
    place = Place(daemon.url, daemon.data_dir)
    await place.found()
    data = os.urandom(SIZE)
    (tmp_path / "source").write_bytes(data)
    async with place.enter("ada") as ada:
        yield Scene(daemon, place, await ada.create_room("ops"), tmp_path / "source", data)


async def test_an_upload_goes_on_where_another_process_was_cut(scene: Scene, tmp_path: Path) -> None:
    resume, halted, after = tmp_path / "resume", Halt(at=PART), Halt()
    with pytest.raises(Cut):
        await scene.room.put_blob(scene.source, "x", resume=resume, progress=halted)
    assert [path.stat().st_mode & 0o777 for path in (resume, *resume.iterdir())] == [0o700, 0o600]
    blob = await scene.room.put_blob(scene.source, "x", resume=resume, progress=after)
    assert after.seen[0] in {PART, 2 * PART, 3 * PART}  # what was on its way when the first was heard of may be there
    assert names(resume) == []
    await scene.room.get_blob(blob, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == scene.data


async def test_an_upload_that_ended_unheard_is_not_sent_again(scene: Scene, tmp_path: Path) -> None:
    resume, aside, after = tmp_path / "resume", tmp_path / "aside", Halt()

    def put_aside(done: int, size: int) -> None:
        if done == size:
            shutil.copytree(resume, aside)

    blob = await scene.room.put_blob(scene.source, "x", resume=resume, progress=put_aside)
    assert names(resume) == []
    # As if the process had ended before it heard that the blob is stored.
    assert await scene.room.put_blob(scene.source, "x", resume=aside, progress=after) == blob
    assert (after.seen, names(aside)) == ([], [])
    assert [found.id for found in await scene.room.blobs()] == [blob]


async def test_a_file_that_changed_meanwhile_begins_anew_under_another_key(scene: Scene, tmp_path: Path) -> None:
    resume = tmp_path / "resume"
    with pytest.raises(Cut):
        await scene.room.put_blob(scene.source, "x", resume=resume, progress=Halt(at=PART))
    scene.source.write_bytes(b"!" + scene.data[1:])
    after = Halt()
    blob = await scene.room.put_blob(scene.source, "x", resume=resume, progress=after)
    assert after.seen[0] == 0
    await scene.room.get_blob(blob, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"!" + scene.data[1:]


async def test_a_file_that_changes_while_it_is_sent_is_refused(scene: Scene) -> None:
    def change(done: int, _all: int) -> None:
        if done == 0:
            scene.source.write_bytes(scene.data[::-1])

    with pytest.raises(InvalidInput, match="changed while it was being stored"):
        await scene.room.put_blob(scene.source, "x", progress=change)
    assert await scene.room.blobs() == []


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_the_daemon_dies_in_the_middle_of_both_ways(
    scene: Scene, start_daemon: StartDaemon, tmp_path: Path, how: str
) -> None:
    first = await scene.room.put_blob(scene.source, "first")
    storing, fetching = Watch(at=PART), Watch(at=1)
    put = asyncio.create_task(scene.room.put_blob(scene.source, "second", progress=storing))
    get = asyncio.create_task(scene.room.get_blob(first, tmp_path / "target", progress=fetching))
    await storing.reached.wait()
    await (scene.daemon.kill() if how == "kill" else scene.daemon.stop())
    await start_daemon(*scene.binds)
    second = await put
    await get
    assert (tmp_path / "target").read_bytes() == scene.data
    assert storing.seen == sorted(storing.seen)
    assert {blob.id for blob in await scene.room.blobs()} == {first, second}
    await scene.room.get_blob(second, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == scene.data


async def test_a_download_goes_on_where_another_process_was_cut(scene: Scene, tmp_path: Path) -> None:
    blob = await scene.room.put_blob(scene.source, "x")
    with pytest.raises(Cut):
        await scene.room.get_blob(blob, tmp_path / "target", progress=Halt(at=PART))
    assert names(tmp_path) == [f".target.{blob[:16]}.part", "data", "source"]
    after = Halt()
    await scene.room.get_blob(blob, tmp_path / "target", progress=after)
    assert after.seen[0] > 0
    assert (tmp_path / "target").read_bytes() == scene.data
    assert names(tmp_path) == ["data", "source", "target"]


async def test_what_was_altered_in_a_download_that_rests_is_noticed(scene: Scene, tmp_path: Path) -> None:
    blob = await scene.room.put_blob(scene.source, "x")
    with pytest.raises(Cut):
        await scene.room.get_blob(blob, tmp_path / "target", progress=Halt(at=PART))
    alter(tmp_path / f".target.{blob[:16]}.part")
    with pytest.raises(BlobInvalid, match="not the blob of that id"):
        await scene.room.get_blob(blob, tmp_path / "target")
    assert names(tmp_path) == ["data", "source"]
    await scene.room.get_blob(blob, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == scene.data


async def test_a_full_disk_is_named_and_keeps_nothing(scene: Scene, tmp_path: Path) -> None:
    pid = scene.daemon.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (PART + 100_000, before[1]))
    with pytest.raises(StorageUnavailable, match="disk is full"):
        await scene.room.put_blob(scene.source, "x")
    assert scene.kept() == []
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    blob = await scene.room.put_blob(scene.source, "x")
    await scene.room.get_blob(blob, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == scene.data


async def test_a_full_disk_on_this_side_is_named(scene: Scene, tmp_path: Path) -> None:
    blob = await scene.room.put_blob(scene.source, "x")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (PART, before[1]))
    try:
        with pytest.raises(InvalidInput, match="cannot write the blob"):
            await scene.room.get_blob(blob, tmp_path / "target")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "target").exists()
    await scene.room.get_blob(blob, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == scene.data
