"""Blobs in files: under the port's specification, and what is theirs alone: the disk, and what a crash leaves."""

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path

import pytest

from tests.store.blob_conformance import BlobConformance
from tests.store.blob_samples import DATA, ID, LARGE, LARGE_PLACE, MIB, PLACE, Kept, OpenBlobs, read, stored
from tests.support.parts import blocks
from unibus.errors import DigestMismatch, NotFound, StartRefused, StorageUnavailable, TooLarge, UploadConflict
from unibus.store.blob_files import FileBlobs
from unibus.store.blob_port import BlobStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
async def store(path: Path) -> FileBlobs:
    return await FileBlobs.open(path)


def names(path: Path) -> list[str]:
    """All files and directories below, but for the three that are always there."""
    return sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.parent != path and p.parent.name != "held")


def modes(path: Path) -> set[int]:
    """The rights of all files and directories below."""
    return {stat.S_IMODE(p.stat().st_mode) for p in path.rglob("*")}


def data_in(path: Path) -> Path:
    """The one file of bytes below."""
    (found,) = path.rglob("data")
    return found


def put_in_the_way(path: Path) -> None:
    path.write_bytes(b"")


class TestFiles(BlobConformance):
    @pytest.fixture
    def open_blobs(self, path: Path) -> OpenBlobs:
        async def open_blobs() -> BlobStore:
            return await FileBlobs.open(path)

        return open_blobs

    @pytest.fixture
    def kept(self, path: Path) -> Kept:
        async def kept() -> Collection[str]:
            return names(path)

        return kept


async def test_a_blob_is_its_bytes_and_its_facts_for_the_owner_only(store: FileBlobs, path: Path) -> None:
    await stored(store)
    assert names(path) == [f"held/room/{ID}", f"held/room/{ID}/data", f"held/room/{ID}/meta"]
    assert modes(path) == {0o600, 0o700}


async def test_who_reads_already_reads_on_when_it_is_removed(store: FileBlobs) -> None:
    await stored(store, LARGE_PLACE, LARGE)
    got = []
    async for block in store.read("room", LARGE_PLACE.blob, 0, len(LARGE)):
        got.append(block)
        await store.remove("room", LARGE_PLACE.blob)
    assert b"".join(got) == LARGE


@pytest.mark.parametrize(("begin", "size"), [(0, 0), (0, 3 * MIB), (MIB // 2, MIB), (4 * MIB, 0)])
async def test_what_the_system_has_not_in_memory_comes_from_disk(
    store: FileBlobs, path: Path, begin: int, size: int
) -> None:
    await stored(store, LARGE_PLACE, LARGE)
    with data_in(path).open("rb") as file:
        os.posix_fadvise(file.fileno(), begin, size, os.POSIX_FADV_DONTNEED)
    assert await read(store, 0, len(LARGE), LARGE_PLACE) == LARGE


async def test_what_goes_beyond_the_end_is_not_written(store: FileBlobs, path: Path) -> None:
    await store.begin(PLACE, len(DATA))
    with pytest.raises(TooLarge):
        await store.receive(PLACE, 0, blocks(DATA, b"x"))
    assert len(data_in(path).read_bytes()) <= len(DATA)


async def test_bytes_lost_in_a_power_cut_are_noticed(store: FileBlobs, path: Path) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA))
    os.truncate(data_in(path), 1000)
    again = await FileBlobs.open(path)
    with pytest.raises((StorageUnavailable, DigestMismatch)):
        await again.finish(PLACE, b"sealed manifest", 7)
    assert await again.find("room", ID) is None


def crash_while_removing(path: Path) -> None:
    (path / "held" / "room" / ID).rename(path / "trash" / "x")


def crash_while_beginning(path: Path) -> None:
    (path / "trash" / "y").mkdir()
    (path / "trash" / "y" / "data").touch()


@pytest.mark.parametrize(("crash", "left"), [(crash_while_removing, 0), (crash_while_beginning, 1)])
async def test_a_start_clears_what_a_crash_left(
    store: FileBlobs, path: Path, crash: Callable[[Path], None], left: int
) -> None:
    await stored(store)
    crash(path)
    again = await FileBlobs.open(path)
    assert list((path / "trash").iterdir()) == []
    assert len(await again.page("room", "", 10)) == left


async def test_a_crash_before_the_name_leaves_an_upload(store: FileBlobs, path: Path) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA))
    upload = next((path / "uploads").iterdir())
    (upload / "meta").write_bytes(b'{"half":')
    again = await FileBlobs.open(path)
    assert await again.find("room", ID) is None
    await again.finish(PLACE, b"sealed manifest", 7)
    assert await read(again) == DATA


async def test_a_planted_link_is_not_followed(store: FileBlobs, path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(DATA)
    await stored(store)
    data = path / "held" / "room" / ID / "data"
    data.unlink()
    data.symlink_to(secret)
    with pytest.raises(StorageUnavailable):
        await read(store)


async def test_a_blob_that_lost_bytes_says_so(store: FileBlobs, path: Path) -> None:
    await stored(store)
    os.truncate(path / "held" / "room" / ID / "data", 10)
    with pytest.raises(StorageUnavailable, match="shorter"):
        await read(store)


async def test_a_disk_that_does_not_serve_is_named(store: FileBlobs, path: Path) -> None:
    shutil.rmtree(path / "trash")
    with pytest.raises(StorageUnavailable):
        await store.begin(PLACE, 5)


async def test_a_file_in_its_place_stops_the_start(path: Path) -> None:
    put_in_the_way(path)
    with pytest.raises(StartRefused):
        await FileBlobs.open(path)


async def test_after_a_sync_that_failed_no_part_that_waits_counts(store: FileBlobs, path: Path) -> None:
    """The disk tells of a lost page once: the next sync would succeed, and vouch for what is not there."""
    await store.begin(PLACE, len(DATA))
    (upload,) = (path / "uploads").iterdir()
    progress, whole, pipe = upload / "progress", upload / "whole", path / "pipe"

    async def hindered() -> AsyncIterator[bytes]:
        progress.rename(whole)
        os.mkfifo(progress)  # to be written to, it waits for a reader; and it has no place to be written at
        yield DATA[:1000]

    first = asyncio.create_task(store.receive(PLACE, 0, hindered()))
    second = asyncio.create_task(store.receive(PLACE, 1000, blocks(DATA[1000:])))
    early = asyncio.create_task(store.receive(PLACE, 1000, blocks(DATA[1000:])))
    await asyncio.wait({first, second, early}, timeout=0.2)
    finishing = asyncio.create_task(store.finish(PLACE, b"sealed manifest", 7))
    await asyncio.wait({finishing}, timeout=0.1)
    progress.rename(pipe)
    whole.rename(progress)
    os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
    outcomes = await asyncio.gather(first, second, early, finishing, return_exceptions=True)
    assert isinstance(outcomes[0], StorageUnavailable)
    assert all(isinstance(outcome, NotFound | UploadConflict) for outcome in outcomes[1:])
    assert await store.upload(PLACE) is None
    pipe.unlink()
    assert names(path) == []
    await stored(store)
    assert await read(store) == DATA
