"""One founded node with people and a room, as most tests of the services need it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.builders import RoomStory, Story
from tests.services.running import Node, running


@pytest.fixture
def story() -> Story:
    """Ada (admin), Bob, Cyd and Eve, and Rex."""
    story = Story()
    story.admit("bob", "cyd", "eve", "rex")
    return story


@pytest.fixture
async def node(tmp_path: Path, story: Story) -> AsyncIterator[Node]:
    async with running(tmp_path / "unibus.db") as node:
        await node.found(story)
        node.effects.calls.clear()
        yield node


@pytest.fixture
async def room(node: Node, story: Story) -> RoomStory:
    """Ada's room with Bob as a member and Rex as a reader."""
    room = RoomStory(story)
    await node.bring("ada", room, room.created)
    await node.take("ada", room, room.addition("bob"))
    await node.take("ada", room, room.addition("rex", role="reader"))
    node.effects.calls.clear()
    return room
