"""Who may read and connect: members now, and to everybody else a room that is not theirs is no room at all."""

import asyncio
from pathlib import Path

import pytest

from tests.builders import RoomStory, Story, user
from tests.services.running import Node, running
from unibus.errors import Forbidden, InvalidInput, LimitReached, NotAUser, NotFound
from unibus.model.records import room_log
from unibus.services import gate
from unibus.services.ports import Grants
from unibus.store.port import Entry
from unibus.store.sqlite import SqliteStore


async def revoke(node: Node, story: Story, name: str) -> None:
    raw = story.revocation(name)
    await node.membership.append_directory(user("ada"), raw)
    story.take(raw)


async def test_pages_of_a_log_end_at_its_head(node: Node, story: Story, room: RoomStory) -> None:
    page = await node.reading.directory(user("bob"), 0, 2)
    assert (page.records, page.head) == (story.records[:2], story.directory.head)
    rest = await node.reading.directory(user("bob"), 2, 500)
    assert [*page.records, *rest.records] == story.records
    shown = await node.reading.room(user("rex"), room.id, 1, 500)
    assert (shown.records, shown.head) == (room.records[1:], room.state.head)
    assert await node.reading.genesis() == story.records[0]
    assert node.reading.bus_id() == story.bus


async def test_a_foreign_room_and_one_that_is_not_are_refused_alike(node: Node, room: RoomStory) -> None:
    answers = []
    for room_id in (room.id, "a" * 26):
        for attempt in (
            node.reading.room(user("cyd"), room_id, 0, 10),
            node.reading.keys(user("cyd"), room_id, 0, 10),
            node.gate.may_read(user("cyd"), room_id),
        ):
            with pytest.raises(NotFound) as caught:
                await attempt
            answers.append((caught.value.message, dict(caught.value.extra)))
    assert len(answers) == 6
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.parametrize(
    "room_id", ["", "a", "../" + "a" * 23, "A" * 26, "a" * 25 + "*", "a" * 25 + "\n", "\ud800" * 26]
)
async def test_what_is_no_room_id_is_refused(node: Node, room_id: str) -> None:
    with pytest.raises(InvalidInput):
        await node.gate.may_read(user("ada"), room_id)
    assert await node.gate.admit(user("ada"), [room_id]) == Grants(user("ada"), ())


async def test_a_revoked_user_and_a_stranger_get_nothing(node: Node, story: Story, room: RoomStory) -> None:
    await revoke(node, story, "bob")
    for name in ("bob", "zoe"):
        for attempt in (
            node.reading.directory(user(name), 0, 10),
            node.reading.room(user(name), room.id, 0, 10),
            node.reading.keys(user(name), room.id, 0, 10),
            node.gate.rooms(user(name), "", 10),
            node.gate.admit(user(name), None),
            node.gate.admit(user(name), [room.id]),
            node.gate.may_read(user(name), room.id),
        ):
            with pytest.raises(NotAUser):
                await attempt


async def test_only_an_admin_is_an_admin(node: Node, story: Story) -> None:
    assert node.gate.admin(user("ada")) == user("ada")
    for name in ("bob", "zoe"):
        with pytest.raises(Forbidden):
            node.gate.admin(user(name))
    story.admit("dan", role="admin")
    await node.membership.append_directory(user("ada"), story.records[-1])
    await revoke(node, story, "dan")
    with pytest.raises(Forbidden):
        node.gate.admin(user("dan"))


async def test_connections_carry_the_rooms_that_may_be_written_or_heard(
    node: Node, room: RoomStory, story: Story
) -> None:
    other = RoomStory(story, "bob", name="other")
    await node.bring("bob", other, other.created)
    both = tuple(sorted((room.id, other.id)))
    assert await node.gate.admit(user("bob"), None) == Grants(user("bob"), both, both)
    assert await node.gate.admit(user("ada"), None) == Grants(user("ada"), (room.id,), (room.id,))
    assert await node.gate.admit(user("rex"), None) == Grants(user("rex"), (), (room.id,))
    assert await node.gate.admit(user("cyd"), [room.id, other.id]) == Grants(user("cyd"), ())
    assert await node.gate.admit(user("bob"), []) == Grants(user("bob"), ())
    named = [other.id, other.id, "*", ">", "a" * 26, room.id + ".msg.>", room.id.upper()]
    assert await node.gate.admit(user("bob"), named) == Grants(user("bob"), (other.id,), (other.id,))


async def test_a_connection_names_a_bounded_number_of_rooms(node: Node, room: RoomStory) -> None:
    with pytest.raises(LimitReached, match="name those it opens"):
        await node.gate.admit(user("bob"), [room.id] * (gate.ROOMS_A_CONNECTION + 1))


class SlowStore(SqliteStore):
    """A real store that keeps one read of one log back: `reached` says that it was read, `let` gives it out."""

    held: tuple[str, int] | None = None

    async def entries(self, log: str, after: int, limit: int) -> list[Entry]:
        found = await super().entries(log, after, limit)
        if (log, after) == self.held:
            self.held = None
            self.reached.set()
            await self.let.wait()
        return found

    def hold(self, log: str, after: int = 0) -> None:
        self.held, self.reached, self.let = (log, after), asyncio.Event(), asyncio.Event()


@pytest.mark.parametrize("how", ["removed", "revoked"])
async def test_rights_lost_while_a_connection_is_judged_are_not_granted(
    tmp_path: Path, node: Node, story: Story, room: RoomStory, how: str
) -> None:
    other = RoomStory(story, "bob", name="other")
    await node.bring("bob", other, other.created)
    async with running(tmp_path / "unibus.db", engine=SlowStore) as again:
        assert isinstance(again.store, SlowStore)
        again.store.hold(room_log(other.id))
        admission = asyncio.create_task(again.gate.admit(user("bob"), [room.id, other.id]))
        await again.store.reached.wait()
        if how == "removed":
            await again.bring("ada", room, room.removal("bob"))
        else:
            await revoke(again, story, "bob")
        again.store.let.set()
        if how == "removed":
            assert await admission == Grants(user("bob"), (other.id,), (other.id,))
        else:
            with pytest.raises(NotAUser):
                await admission


async def test_a_slow_read_never_brings_back_what_a_room_was(tmp_path: Path, node: Node, room: RoomStory) -> None:
    assert node.gate.user(user("bob")) == user("bob")
    async with running(tmp_path / "unibus.db", engine=SlowStore) as again:
        assert isinstance(again.store, SlowStore)
        # Bob's look finds the end of the log before his removal, and is told so after it.
        again.store.hold(room_log(room.id), after=3)
        look = asyncio.create_task(again.gate.may_read(user("bob"), room.id))
        await again.store.reached.wait()
        await again.take("ada", room, room.removal("bob"))
        again.store.let.set()
        with pytest.raises(NotFound):
            await look
        assert (await again.books.room(room.id)).head == room.state.head
        assert await again.gate.admit(user("bob"), [room.id]) == Grants(user("bob"), ())


async def test_a_revocation_while_a_room_is_looked_up_ends_the_look(
    tmp_path: Path, node: Node, story: Story, room: RoomStory
) -> None:
    assert node.reading.bus_id() == story.bus
    async with running(tmp_path / "unibus.db", engine=SlowStore) as again:
        assert isinstance(again.store, SlowStore)
        again.store.hold(room_log(room.id))
        look = asyncio.create_task(again.gate.may_read(user("bob"), room.id))
        await again.store.reached.wait()
        await revoke(again, story, "bob")
        again.store.let.set()
        with pytest.raises(NotFound):
            await look


async def test_rooms_are_paged_in_order(node: Node, story: Story) -> None:
    rooms = [RoomStory(story, name=f"room {n}") for n in range(5)]
    for made in rooms:
        await node.bring("ada", made, made.created)
    ids = sorted(made.id for made in rooms)
    assert await node.gate.rooms(user("ada"), "", 2) == ids[:2]
    assert await node.gate.rooms(user("ada"), ids[1], 10) == ids[2:]
    assert await node.gate.rooms(user("bob"), "", 10) == []


async def test_keys_are_handed_only_to_whom_they_were_sealed(node: Node, room: RoomStory) -> None:
    await node.take("ada", room, room.rotation())
    for name, positions in (("ada", [1, 4]), ("bob", [2, 4]), ("rex", [3, 4])):
        keys = await node.reading.keys(user(name), room.id, 0, 10)
        assert [key.position for key in keys] == positions
    assert [key.position for key in await node.reading.keys(user("ada"), room.id, 1, 10)] == [4]
    assert len(await node.reading.keys(user("ada"), room.id, 0, 1)) == 1
    assert (await node.reading.directory(user("ada"), 5, 10)).records == []
