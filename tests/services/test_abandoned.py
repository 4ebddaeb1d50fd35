"""What rooms without anybody left on the bus hold: freed after a grace or by an admin, and nothing of others."""

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from tests.builders import AT, RoomStory, Story, user
from tests.services.running import Node
from unibus.crypto.encoding import b64u
from unibus.errors import BusUnavailable, Forbidden, NotFound, StorageUnavailable
from unibus.services.abandoned import GRACE, Abandoned
from unibus.services.blobs import Blobs
from unibus.services.gate import member_mark
from unibus.services.moves import LOG
from unibus.store.blob_files import FileBlobs
from unibus.store.blob_port import Place
from unibus.store.port import Append

ID = b64u(sha256(b"sealed").digest())


@dataclass
class Messages:
    """Implements `MessageDrop`: `kept` is how many messages each room has; `down` is a bus that does not answer."""

    kept: dict[str, int] = field(default_factory=dict)
    down: bool = False

    async def drop(self, room: str) -> int:
        if self.down:
            raise BusUnavailable("the bus is down")
        return self.kept.pop(room, 0)


@dataclass
class Stage:
    """A node with eve's room, in which nobody else ever was, and ada's, in which eve and bob are too."""

    node: Node
    story: Story
    alone: RoomStory
    shared: RoomStory
    files: FileBlobs
    blobs: Blobs
    messages: Messages
    now: float = AT

    def abandoned(self) -> Abandoned:
        """The service, as a node has it after its start."""
        node = self.node
        return Abandoned(
            node.books, node.gate, node.store, self.blobs, self.messages, node.audit, lambda: self.now, GRACE
        )

    async def revoke(self, name: str) -> None:
        raw = self.story.revocation(name)
        self.story.take(raw)
        await self.node.membership.append_directory(user("ada"), raw)

    async def held(self, room: RoomStory) -> int:
        """How many blobs and uploads a room has."""
        uploads, held = await self.files.survey()
        return [place.scope for place in (*(u.place for u in uploads), *(h.place for h in held))].count(room.id)


@pytest.fixture
async def stage(node: Node, story: Story, tmp_path: Path) -> Stage:
    alone, shared = RoomStory(story, "eve", name="alone"), RoomStory(story, name="shared")
    await node.bring("eve", alone, alone.created)
    await node.bring("ada", shared, shared.created)
    await node.take("ada", shared, shared.addition("eve"))
    await node.take("ada", shared, shared.addition("bob"))
    files = await FileBlobs.open(tmp_path / "blobs")
    for room in (alone, shared):
        await files.begin(Place(room.id, ID, user("eve")), 100)
    blobs = Blobs(node.books, node.gate, files, node.audit, lambda: AT)
    await blobs.recount()
    return Stage(node, story, alone, shared, files, blobs, Messages({alone.id: 5, shared.id: 7}))


async def test_a_room_of_revoked_people_alone_is_freed_after_the_grace(stage: Stage) -> None:
    abandoned, before = stage.abandoned(), stage.blobs.stored_bytes
    assert await abandoned.sweep() == 0
    await stage.revoke("eve")
    stage.now = AT + GRACE - 1
    assert await abandoned.sweep() == 0
    assert stage.messages.kept[stage.alone.id] == 5
    stage.now = AT + GRACE
    assert await abandoned.sweep() == 1
    assert stage.messages.kept == {stage.shared.id: 7}
    assert (await stage.held(stage.alone), await stage.held(stage.shared)) == (0, 1)
    assert stage.blobs.stored_bytes == before // 2
    entry = (await stage.node.audit.read(0, 1000))[-1]
    assert (entry.actor, entry.action, entry.target) == ("-", "room.purge", stage.alone.id)
    assert entry.facts == {"messages": 5, "blob_bytes": 100}
    assert await abandoned.sweep() == 0


async def test_nothing_is_noted_again_after_a_restart(stage: Stage) -> None:
    await stage.revoke("eve")
    stage.now = AT + GRACE
    await stage.abandoned().sweep()
    length = len(await stage.node.audit.read(0, 1000))
    await stage.abandoned().sweep()
    assert len(await stage.node.audit.read(0, 1000)) == length


async def test_one_living_member_keeps_a_room(stage: Stage) -> None:
    abandoned = stage.abandoned()
    await stage.revoke("eve")
    for who in ("ada", "bob"):
        with pytest.raises(NotFound if who == "ada" else Forbidden):
            await abandoned.purge(user(who), stage.shared.id)
    stage.now = AT + 100 * GRACE
    await abandoned.sweep()
    assert stage.messages.kept == {stage.shared.id: 7}
    assert await stage.held(stage.shared) == 1


async def test_the_grace_begins_with_the_last_revocation(stage: Stage) -> None:
    other = RoomStory(stage.story, "eve", name="two")
    await stage.node.bring("eve", other, other.created)
    await stage.node.take("eve", other, other.addition("cyd", by="eve"))
    stage.messages.kept[other.id] = 1
    await stage.revoke("eve")
    stage.story.at = AT + 200
    await stage.revoke("cyd")
    stage.now = AT + GRACE + 199
    await stage.abandoned().sweep()
    assert stage.messages.kept == {stage.shared.id: 7, other.id: 1}
    stage.now += 1
    await stage.abandoned().sweep()
    assert stage.messages.kept == {stage.shared.id: 7}


async def test_an_admin_frees_it_at_once_and_nobody_else_does(stage: Stage) -> None:
    abandoned = stage.abandoned()
    with pytest.raises(NotFound) as alive:
        await abandoned.purge(user("ada"), stage.alone.id)
    with pytest.raises(NotFound) as unknown:
        await abandoned.purge(user("ada"), "a" * 26)
    assert alive.value.message == unknown.value.message  # or an admin would learn which rooms others have
    await stage.revoke("eve")
    for who in ("bob", "eve"):
        with pytest.raises(Forbidden):
            await abandoned.purge(user(who), stage.alone.id)
    assert stage.messages.kept[stage.alone.id] == 5
    await abandoned.purge(user("ada"), stage.alone.id)
    assert stage.messages.kept == {stage.shared.id: 7}
    entry = (await stage.node.audit.read(0, 1000))[-1]
    assert (entry.actor, entry.action, entry.target) == (user("ada"), "room.purge", stage.alone.id)
    await abandoned.purge(user("ada"), stage.alone.id)  # as a repeated request would


async def test_what_the_bus_did_not_drop_comes_round_again(stage: Stage) -> None:
    abandoned = stage.abandoned()
    await stage.revoke("eve")
    stage.now, stage.messages.down = AT + GRACE, True
    with pytest.raises(BusUnavailable):
        await abandoned.sweep()
    with pytest.raises(BusUnavailable):
        await abandoned.purge(user("ada"), stage.alone.id)
    stage.messages.down = False
    assert await abandoned.sweep() == 1
    assert stage.messages.kept == {stage.shared.id: 7}


async def test_marks_that_lie_free_nothing(stage: Stage) -> None:
    """Marks only say where to look: with those of the living gone, the room's own log still speaks for it."""
    gone = {member_mark(user(name), stage.shared.id): None for name in ("ada", "bob")}
    await stage.node.store.append(Append("x", 1, b"x", {}, gone))
    await stage.revoke("eve")
    stage.now = AT + GRACE
    assert await stage.abandoned().sweep() == 1
    assert stage.messages.kept == {stage.shared.id: 7}


async def test_while_a_bus_is_moved_in_nothing_is_freed(stage: Stage) -> None:
    await stage.revoke("eve")
    stage.now = AT + GRACE
    stage.node.books.heard(LOG, 1)
    with pytest.raises(StorageUnavailable):
        await stage.abandoned().sweep()
    assert stage.messages.kept[stage.alone.id] == 5
