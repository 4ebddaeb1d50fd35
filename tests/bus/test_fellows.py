"""Daemons that ask each other whether a removal holds: who is waited for, for how long, and what the silent deliver.

They share one real nats-server here, as all daemons of a cluster share the account.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.bus.stage import OTHER_ROOM, ROOM, Logbook
from tests.bus.watched import Watched, watched
from unibus.bus.consumers import Consumer, Settings
from unibus.bus.elsewhere import lost
from unibus.bus.fellows import END_WITHIN, UNREACHED, WITHIN, Fellows
from unibus.bus.links import Links
from unibus.model import subjects
from unibus.tasks import end_tasks

SOON = 0.4
LOG = "directory"


class Records:
    """What has taken effect on one node."""

    def __init__(self) -> None:
        self.changed = asyncio.Condition()
        self.done: set[tuple[str, int]] = set()

    async def until(self, log: str, position: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: (log, position) in self.done)

    async def end(self, position: int) -> None:
        async with self.changed:
            self.done.add((LOG, position))
            self.changed.notify_all()


class Meeting:
    """Daemons on one bus; `there` are those that give signs of life."""

    def __init__(self, bus: Watched, stack: AsyncExitStack) -> None:
        self._bus, self._stack = bus, stack
        self.there: set[str] = set()
        self.log = Logbook()

    async def links(self) -> Links:
        address = f"nats://127.0.0.1:{self._bus.stage.plane.client_port}"
        links = await Links.connect(address, self._bus.keys, self.log.logger)
        self._stack.push_async_callback(links.close)
        return links

    async def come(self, node: str) -> tuple[Fellows, Records]:
        """One more daemon; it and what has taken effect there."""
        records = Records()
        fellows = Fellows(node, lambda: self.there, records.until, self.log.logger)
        self._stack.push_async_callback(await fellows.listen(await self.links()))
        self.there.add(node)
        return fellows, records


@pytest.fixture
async def meeting(tmp_path: Path) -> AsyncIterator[Meeting]:
    async with watched(tmp_path) as bus, AsyncExitStack() as stack:
        yield Meeting(bus, stack)


async def took(fellows: Fellows, position: int) -> float:
    """The seconds that `fellows` waits for a record."""
    began = time.monotonic()
    await fellows.took_effect(LOG, position, ())
    return time.monotonic() - began


async def test_a_node_alone_waits_for_nobody(meeting: Meeting) -> None:
    one, _ = await meeting.come("one")
    assert await took(one, 1) < SOON


async def test_all_others_have_to_say_so(meeting: Meeting) -> None:
    one, _ = await meeting.come("one")
    (_, two), (_, three) = await meeting.come("two"), await meeting.come("three")
    await two.end(1)
    waiting = asyncio.create_task(took(one, 1))
    try:
        done, _ = await asyncio.wait([waiting], timeout=SOON)
        assert not done
        await three.end(1)
        assert await waiting < WITHIN
        assert await took(one, 1) < SOON
        assert meeting.log.entries == []
    finally:
        await end_tasks(waiting)


async def test_a_node_that_is_not_there_is_waited_for_once_and_not_for_long(meeting: Meeting) -> None:
    one, _ = await meeting.come("one")
    meeting.there.add("two")
    assert UNREACHED < await took(one, 1) < UNREACHED + END_WITHIN + SOON
    assert await took(one, 2) < END_WITHIN + SOON
    meeting.there.remove("two")
    assert await took(one, 3) < SOON


async def test_a_silent_node_is_waited_for_again_once_it_has_answered(meeting: Meeting) -> None:
    one, _ = await meeting.come("one")
    _, two = await meeting.come("two")
    assert WITHIN - SOON < await took(one, 1) < WITHIN + END_WITHIN + SOON
    assert await took(one, 2) < END_WITHIN + SOON
    await meeting.log.heard("a node does not say that a removal has taken effect there", node="two")
    await two.end(1)
    async with asyncio.timeout(2 * WITHIN):
        while await took(one, 2) < END_WITHIN + SOON:
            pass
    await two.end(3)
    assert await took(one, 3) < SOON


async def test_a_daemon_that_cannot_ask_fails_no_removal(meeting: Meeting) -> None:
    fellows = Fellows("one", lambda: meeting.there, Records().until, meeting.log.logger)
    links = await meeting.links()
    close = await fellows.listen(links)
    meeting.there.add("two")
    await links.core.close()
    assert await took(fellows, 1) < SOON
    await close()
    assert await took(fellows, 1) < SOON


def consumer(user: str, room: str, token: str) -> Consumer:
    settings = Settings(deliver_subject=subjects.delivery(user, token), filter_subject=subjects.room_messages(room))
    return Consumer(name=token, config=settings)


def test_only_what_was_lost_is_ended() -> None:
    found = [consumer("UBOB", ROOM, "one"), consumer("UBOB", OTHER_ROOM, "two"), consumer("UBOBBY", ROOM, "three")]
    assert lost(found, [("UBOB", ROOM)]) == ["one"]
    assert lost(found, [("UBOB", None)]) == ["one", "two"]
    assert lost(found, [("UBOBBY", None), ("UBOB", OTHER_ROOM)]) == ["two", "three"]
    assert lost([*found, Consumer(name="another's")], []) == []
