"""Restarts and tampering: the state comes back from the store as it was, and a store that was altered does not load."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.builders import RoomStory, Story, user
from tests.services.running import Node, running
from unibus.errors import NotFound, StorageUnavailable
from unibus.model.records import DIRECTORY, room_log
from unibus.services import books

READ = "SELECT value FROM entries WHERE log = (SELECT id FROM logs WHERE name = ?) AND position = ?"
WRITE = "UPDATE entries SET value = ? WHERE log = (SELECT id FROM logs WHERE name = ?) AND position = ?"


def alter(path: Path, log: str, position: int, value: bytes) -> None:
    """Change one stored entry, as whoever holds the disk can."""
    with closing(sqlite3.connect(path)) as db, db:
        # The schema's triggers keep mistakes out, not somebody who may write the file.
        triggers = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            db.execute(f"DROP TRIGGER {name}")
        changed = db.execute(WRITE, (value, log.encode(), position))
        assert changed.rowcount == 1
        for _, sql in triggers:
            db.execute(sql)


def stored(path: Path, log: str, position: int) -> bytes:
    with closing(sqlite3.connect(path)) as db:
        ((value,),) = db.execute(READ, (log.encode(), position))
    assert isinstance(value, bytes)
    return value


@pytest.fixture
async def path(tmp_path: Path, story: Story) -> Path:
    """A store that a node left behind: five users, one room with two records."""
    path = tmp_path / "left.db"
    async with running(path) as node:
        await node.found(story)
        room = RoomStory(story)
        await node.bring("ada", room, room.created)
        await node.take("ada", room, room.addition("bob"))
    return path


async def test_a_restart_gives_the_same_state(path: Path, story: Story) -> None:
    room = RoomStory(story)
    room.add("bob")
    async with running(path) as node:
        assert vars(node.books.directory) == vars(story.directory)
        assert vars(await node.books.room(room.id)) == vars(room.state)
        await node.bring("ada", room, room.removal("bob"))


@pytest.mark.parametrize("position", [1, 3, 5])
@pytest.mark.parametrize("part", [0, 1, 2])
async def test_a_directory_with_a_flipped_byte_does_not_load(path: Path, position: int, part: int) -> None:
    value = stored(path, DIRECTORY, position)
    parts = value.split(b".")
    parts[part] = parts[part][:9] + (b"A" if parts[part][9:10] != b"A" else b"B") + parts[part][10:]
    alter(path, DIRECTORY, position, b".".join(parts))
    with pytest.raises(StorageUnavailable, match="does not hold"):
        async with running(path):
            pytest.fail("a daemon must not serve an altered directory")


async def test_a_directory_with_a_record_left_out_or_forged_does_not_load(path: Path, story: Story) -> None:
    # A forger's own revocation of Bob, in the place of the record that admitted Eve.
    forged = Story("eve").revocation("bob", by="eve")
    alter(path, DIRECTORY, 4, forged)
    with pytest.raises(StorageUnavailable):
        async with running(path):
            pytest.fail("a daemon must not serve a forged directory")
    alter(path, DIRECTORY, 4, story.records[4])
    with pytest.raises(StorageUnavailable):
        async with running(path):
            pytest.fail("a daemon must not serve a directory with a gap")


async def test_an_altered_room_harms_no_other(path: Path, story: Story) -> None:
    room, other = RoomStory(story), RoomStory(story, name="other")
    async with running(path) as node:
        await node.bring("ada", other, other.created)
    alter(path, room_log(room.id), 2, stored(path, room_log(other.id), 1))
    async with running(path) as node:
        with pytest.raises(StorageUnavailable, match="restore from a backup"):
            await node.reading.room(user("ada"), room.id, 0, 10)
        with pytest.raises(StorageUnavailable):
            await node.bring("ada", room, room.addition("bob"))
        assert (await node.reading.room(user("ada"), other.id, 0, 10)).records == other.records


async def test_a_room_that_does_not_exist_is_not_remembered(node: Node, room: RoomStory) -> None:
    for _ in range(2):
        with pytest.raises(NotFound):
            await node.books.room("a" * 26)
    assert (await node.books.room(room.id)).head == room.state.head


async def test_a_node_without_a_bus_has_no_rooms(tmp_path: Path, story: Story) -> None:
    async with running(tmp_path / "empty.db") as node:
        with pytest.raises(NotFound):
            await node.books.room("a" * 26)
        assert await node.reading.genesis() is None
        assert node.reading.bus_id() is None
        await node.found(story)  # and that there was none is not remembered
        for _ in range(2):
            assert await node.reading.genesis() == story.records[0]


async def test_a_log_longer_than_a_page_is_read_whole(tmp_path: Path, story: Story) -> None:
    path = tmp_path / "long.db"
    room = RoomStory(story)
    async with running(path) as node:
        await node.found(story)
        await node.bring("ada", room, room.created)
        for _ in range(books.PAGE):
            await node.take("ada", room, room.rotation())
    async with running(path) as node:
        assert vars(await node.books.room(room.id)) == vars(room.state)
        assert room.state.head.sequence == books.PAGE + 1
