"""When a record has taken effect on a node, and that whoever appends one waits for the others to say so."""

import asyncio

import pytest

from tests.builders import RoomStory, Story, user
from tests.services.running import Node
from unibus.model.records import DIRECTORY, room_log
from unibus.services.followed import Followed
from unibus.tasks import end_tasks

SOON = 0.1


async def waits(task: "asyncio.Task[None]") -> bool:
    done, _ = await asyncio.wait([task], timeout=SOON)
    return not done


@pytest.mark.parametrize("asked_first", [True, False])
async def test_a_record_that_was_told_of_has_an_effect_once_it_is_through(node: Node, *, asked_first: bool) -> None:
    """Also one that can be read for long: that it is here does not mean that anybody was cut off."""
    known = Followed(node.store, untold=SOON / 10)
    if not asked_first:
        known.begin(DIRECTORY, 2)
    asked = asyncio.create_task(known.until(DIRECTORY, 2))
    known.begin(DIRECTORY, 2)
    try:
        assert await waits(asked)
        known.end(DIRECTORY, 2)
        async with asyncio.timeout(5):
            await asked
            await known.until(DIRECTORY, 2)
    finally:
        await end_tasks(asked)


async def test_a_record_that_is_not_here_yet_has_none(node: Node) -> None:
    known = Followed(node.store, untold=SOON / 10)
    asked = asyncio.create_task(known.until(DIRECTORY, 1000))
    try:
        assert await waits(asked)
    finally:
        await end_tasks(asked)


async def test_a_record_from_before_the_start_is_in_what_the_node_began_with(node: Node) -> None:
    async with asyncio.timeout(5):
        await Followed(node.store, untold=SOON).until(DIRECTORY, 2)


async def test_what_was_forgotten_is_looked_up(node: Node) -> None:
    known = Followed(node.store, untold=SOON / 10, most=2)
    for position in (1, 2, 3, 4):
        known.begin(DIRECTORY, position)
        known.end(DIRECTORY, position)
    async with asyncio.timeout(5):
        for position in (1, 2, 3, 4):
            await known.until(DIRECTORY, position)


async def test_what_takes_something_away_is_waited_for_on_all_nodes(node: Node, story: Story, room: RoomStory) -> None:
    node.effects.waited.clear()
    await node.take("ada", room, room.addition("cyd"))
    assert node.effects.waited == []
    removal = room.removal("bob")
    await node.take("ada", room, removal)
    log, head = room_log(room.id), room.state.head.sequence
    assert node.effects.waited == [(log, head, ((user("bob"), room.id),))]
    revocation = story.revocation("eve")
    await node.membership.append_directory(user("ada"), revocation)
    assert node.effects.waited[1:] == [(DIRECTORY, node.books.directory.head.sequence, ((user("eve"), None),))]


async def test_who_repeats_a_removal_waits_too_and_takes_nothing_from_who_is_back(node: Node, room: RoomStory) -> None:
    removal = room.removal("bob")
    await node.take("ada", room, removal)
    gone = room.state.head.sequence
    await node.take("ada", room, room.addition("bob"))
    node.effects.waited.clear()
    await node.bring("ada", room, removal)
    assert node.effects.waited == [(room_log(room.id), gone, ())]
