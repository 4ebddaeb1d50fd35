"""The SQLite engine's files: private from the first byte, and never somebody else's."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from unibus.errors import StartRefused, StorageUnavailable
from unibus.store.files import make_private
from unibus.store.port import Append
from unibus.store.sqlite import SqliteStore


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask {:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, str]:
    """What is in a directory, each with its rights in octal."""
    return {file.name: f"{stat.S_IMODE(file.stat().st_mode):o}" for file in directory.iterdir()}


@pytest.mark.usefixtures("umask")
async def test_files_are_for_their_owner_alone_under_any_umask(tmp_path: Path) -> None:
    path = tmp_path / "data" / "store.db"
    store = await SqliteStore.open(path)
    await store.append(Append("log", 1, b"v"))
    found = modes(path.parent)
    await store.close()
    assert found == {"store.db": "600", "store.db-wal": "600", "store.db-shm": "600"}
    assert modes(tmp_path) == {"data": "700"}


@pytest.mark.usefixtures("umask")
def test_a_file_is_private_before_anything_is_in_it(tmp_path: Path) -> None:
    make_private(tmp_path / "data" / "store.db")
    assert modes(tmp_path / "data") == {"store.db": "600"}


async def test_rights_that_were_loosened_are_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await (await SqliteStore.open(path)).close()
    path.chmod(0o666)
    store = await SqliteStore.open(path)
    await store.append(Append("log", 1, b"v"))
    found = modes(tmp_path)
    await store.close()
    assert found == {"store.db": "600", "store.db-wal": "600", "store.db-shm": "600"}


async def test_a_link_a_directory_and_a_pipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "plain").touch()
    for name in ("link", "dangling", "directory", "pipe", "plain/store.db"):
        with pytest.raises(StartRefused, match=r"^cannot use .* as the store: [a-z ]+; mend it or name another$"):
            await SqliteStore.open(tmp_path / name)
    assert (tmp_path / "target").read_bytes() == b""
    assert not (tmp_path / "elsewhere").exists()


async def test_a_foreign_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with sqlite3.connect(path) as foreign:
        foreign.execute("CREATE TABLE logs (id INTEGER PRIMARY KEY, name BLOB)")
    foreign.close()
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(StartRefused, match="not a store of unibus"):
        await SqliteStore.open(path)
    assert path.read_bytes() == before
    assert modes(tmp_path) == {"store.db": "644"}


async def test_a_file_that_is_no_database_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("the only copy of somebody's thesis\n" * 100)
    before = path.read_bytes()
    with pytest.raises(StartRefused, match="not a store of unibus"):
        await SqliteStore.open(path)
    assert path.read_bytes() == before


async def test_a_damaged_file_is_named_and_never_read_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    for position in range(1, 101):
        await store.append(Append("log", position, b"v" * 5000))
    await store.close()
    with path.open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xa5" * (path.stat().st_size - 2 * 4096))
    store = await SqliteStore.open(path)
    try:
        with pytest.raises(StorageUnavailable, match="damaged"):
            await store.entries("log", 0, 1000)
        with pytest.raises(StorageUnavailable, match="damaged"):
            await store.append(Append("log", 101, b"v"))
        assert "damaged" in str((await store.posture())["reasons"])
    finally:
        await store.close()
