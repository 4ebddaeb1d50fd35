"""Blobs in files: parts that count or do not, the step in which an upload becomes a blob, and what a crash leaves."""

import asyncio
import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from unibus.crypto.encoding import b64u
from unibus.errors import (
    DigestMismatch,
    InvalidInput,
    NotFound,
    StartRefused,
    StorageUnavailable,
    TooLarge,
    UploadConflict,
)
from unibus.store.blob_files import FileBlobs
from unibus.store.blob_port import Held, Place

DATA = bytes(range(250)) * 12  # the same in every process that collects these tests
ID = b64u(sha256(DATA).digest())
PLACE = Place("room", ID, "ada")
NOTE = b"sealed manifest"


async def blocks(*parts: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
    if error is not None:
        raise error


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
async def store(path: Path) -> FileBlobs:
    return await FileBlobs.open(path)


async def stored(store: FileBlobs, place: Place = PLACE, data: bytes = DATA) -> Held:
    await store.begin(place, len(data))
    await store.receive(place, 0, blocks(data))
    return await store.finish(place, NOTE, 7)


async def read(store: FileBlobs, start: int = 0, stop: int = len(DATA)) -> bytes:
    return b"".join([block async for block in store.read("room", ID, start, stop)])


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


async def test_an_upload_becomes_a_blob(store: FileBlobs, path: Path) -> None:
    await store.begin(PLACE, len(DATA))
    assert (await store.receive(PLACE, 0, blocks(DATA[:10], DATA[10:1000]))).received == 1000
    assert await store.find("room", ID) is None
    assert (await store.receive(PLACE, 1000, blocks(DATA[1000:]))).received == 3000
    assert await store.find("room", ID) is None
    held = await store.finish(PLACE, NOTE, 7)
    assert held == Held(PLACE, 3000, NOTE, 7) == await store.find("room", ID)
    assert await read(store) == DATA
    assert await read(store, 5, 9) == DATA[5:9]
    assert await store.page("room", "", 10) == [held]
    assert await store.page("room", ID, 10) == await store.page("elsewhere", "", 10) == []
    assert await store.upload(PLACE) is None
    assert names(path) == [f"held/room/{ID}", f"held/room/{ID}/data", f"held/room/{ID}/meta"]
    assert modes(path) == {0o600, 0o700}


async def test_a_blob_is_removed_whole(store: FileBlobs, path: Path) -> None:
    held = await stored(store)
    assert await store.remove("room", ID) == held
    assert await store.remove("room", ID) is None
    assert await store.find("room", ID) is None
    assert names(path) == []
    with pytest.raises(NotFound):
        await read(store)


async def test_who_reads_already_reads_on_when_it_is_removed(store: FileBlobs) -> None:
    data = os.urandom(3 * 2**20)
    held = await stored(store, Place("room", b64u(sha256(data).digest()), "ada"), data)
    got = []
    async for block in store.read("room", held.place.blob, 0, len(data)):
        got.append(block)
        await store.remove("room", held.place.blob)
    assert b"".join(got) == data


@pytest.mark.parametrize("error", [ConnectionError(), asyncio.CancelledError(), UploadConflict()], ids=repr)
async def test_a_part_that_ends_in_an_error_does_not_count(store: FileBlobs, error: Exception) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA[:1000]))
    with pytest.raises(type(error)):
        await store.receive(PLACE, 1000, blocks(b"other bytes" * 100, error=error))
    upload = await store.upload(PLACE)
    assert upload is not None
    assert upload.received == 1000
    await store.receive(PLACE, 1000, blocks(DATA[1000:]))
    assert (await store.finish(PLACE, NOTE, 7)).size == 3000
    assert await read(store) == DATA


@pytest.mark.parametrize("offset", [0, 999, 1001, 3000, 2**60])
async def test_parts_neither_overlap_nor_leave_gaps(store: FileBlobs, offset: int) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA[:1000]))
    with pytest.raises(UploadConflict) as refused:
        await store.receive(PLACE, offset, blocks(DATA[1000:]))
    assert refused.value.extra == {"offset": 1000}


async def test_no_part_goes_beyond_the_end(store: FileBlobs, path: Path) -> None:
    await store.begin(PLACE, len(DATA))
    with pytest.raises(TooLarge):
        await store.receive(PLACE, 0, blocks(DATA, b"x"))
    assert len(data_in(path).read_bytes()) <= len(DATA)
    await store.receive(PLACE, 0, blocks(DATA))
    await store.finish(PLACE, NOTE, 7)


async def test_of_two_senders_the_later_goes_on(store: FileBlobs) -> None:
    await store.begin(PLACE, len(DATA))
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        yield b"stale" * 100
        reached.set()
        await go_on.wait()
        yield b"stale" * 100

    first = asyncio.create_task(store.receive(PLACE, 0, stuck()))
    await reached.wait()
    await store.receive(PLACE, 0, blocks(DATA))
    go_on.set()
    with pytest.raises(UploadConflict):
        await first
    await store.finish(PLACE, NOTE, 7)
    assert await read(store) == DATA


async def test_of_many_at_once_one_counts(store: FileBlobs) -> None:
    await store.begin(PLACE, len(DATA))
    parts = (store.receive(PLACE, 0, blocks(DATA[:1000])) for _ in range(10))
    outcomes = await asyncio.gather(*parts, return_exceptions=True)
    assert sum(not isinstance(outcome, UploadConflict) for outcome in outcomes) == 1
    await store.receive(PLACE, 1000, blocks(DATA[1000:]))
    await store.finish(PLACE, NOTE, 7)
    assert await read(store) == DATA


async def test_bytes_of_another_hash_leave_nothing(store: FileBlobs, path: Path) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA[:-1] + b"?"))
    with pytest.raises(DigestMismatch):
        await store.finish(PLACE, NOTE, 7)
    assert names(path) == []
    with pytest.raises(NotFound):
        await store.finish(PLACE, NOTE, 7)


async def test_an_upload_that_is_not_whole_is_no_blob(store: FileBlobs) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA[:1000]))
    with pytest.raises(UploadConflict) as refused:
        await store.finish(PLACE, NOTE, 7)
    assert refused.value.extra == {"offset": 1000}
    assert await store.find("room", ID) is None


async def test_the_first_of_two_uploads_of_one_blob_stays(store: FileBlobs, path: Path) -> None:
    other = Place("room", ID, "bob")
    await store.begin(other, len(DATA))
    await store.receive(other, 0, blocks(DATA))
    first = await stored(store)
    assert await store.finish(other, b"another", 8) == first
    assert not [name for name in names(path) if name.startswith("uploads")]


async def test_begun_again_it_goes_on_and_never_as_something_else(store: FileBlobs) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA[:1000]))
    assert (await store.begin(PLACE, len(DATA))).received == 1000
    with pytest.raises(UploadConflict):
        await store.begin(PLACE, len(DATA) + 1)
    assert await store.abandon(PLACE)
    assert not await store.abandon(PLACE)
    assert (await store.begin(PLACE, len(DATA) + 1)).received == 0


async def test_a_restart_forgets_no_part(store: FileBlobs, path: Path) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA[:1000]))
    with pytest.raises(ConnectionError):
        await store.receive(PLACE, 1000, blocks(b"half a part", error=ConnectionError()))
    again = await FileBlobs.open(path)
    assert (await again.begin(PLACE, len(DATA))).received == 1000
    await again.receive(PLACE, 1000, blocks(DATA[1000:]))
    third = await FileBlobs.open(path)
    assert await third.finish(PLACE, NOTE, 7) == Held(PLACE, 3000, NOTE, 7)
    assert await read(third) == DATA


async def test_bytes_lost_in_a_power_cut_are_noticed(store: FileBlobs, path: Path) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA))
    os.truncate(data_in(path), 1000)
    again = await FileBlobs.open(path)
    with pytest.raises((StorageUnavailable, DigestMismatch)):
        await again.finish(PLACE, NOTE, 7)
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
    await again.finish(PLACE, NOTE, 7)
    assert await read(again) == DATA


async def test_the_survey_sees_everything(store: FileBlobs) -> None:
    held = await stored(store)
    await store.begin(Place("room", ID, "bob"), 5)
    uploads, blobs = await store.survey()
    assert list(blobs) == [held]
    assert [(upload.place.owner, upload.size, upload.received) for upload in uploads] == [("bob", 5, 0)]


@pytest.mark.parametrize(
    "parts",
    [("..", ID), ("room", ".."), ("room/../x", ID), ("", ID), ("room", ""), ("room", "a\0b"), ("é", ID)],
    ids=ascii,
)
async def test_no_place_leads_elsewhere(store: FileBlobs, path: Path, parts: Sequence[str]) -> None:
    scope, blob = parts
    place = Place(scope, blob, "ada")
    for attempt in (
        store.begin(place, 5),
        store.upload(place),
        store.abandon(place),
        store.find(scope, blob),
        store.remove(scope, blob),
        anext(store.read(scope, blob, 0, 1)),
    ):
        with pytest.raises(InvalidInput):
            await attempt
    assert names(path) == []


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
