"""A member whose frames and signals have headers and reply subjects of their own making: all others read on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from tests.builders import identity
from tests.bus.raw_headers import ODD, ODD_REPLIES, RawMember, headers, raw_member, rows
from tests.bus.stage import Member
from tests.support.people import WAIT, Place, Tail, tail
from unibus import Bus, Room
from unibus.client.connection import Connection
from unibus.daemon.node import Node
from unibus.model.subjects import room_messages, room_signals

FINE = headers(("X", "y"))


@dataclass
class Scene:
    """Ada reads and hears in her room; mallory is in it, as an honest client and by hand."""

    ada: Bus
    room: Room
    reading: Tail
    theirs: Room
    raw: RawMember
    connection: Connection


@pytest.fixture
async def scene(node: tuple[Node, Place]) -> AsyncIterator[Scene]:
    running, place = node
    await place.found("mallory")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(WAIT))
        ada = await stack.enter_async_context(place.enter("ada"))
        mallory = await stack.enter_async_context(place.enter("mallory"))
        room = await ada.create_room("ops")
        await room.add("mallory")
        theirs = await mallory.room("ops")
        reading = await stack.enter_async_context(tail(room))
        await theirs.send("first")
        await reading.until(1)
        member = Member(identity("mallory").signing)
        raw = await stack.enter_async_context(raw_member(running.bus.client_port, member))
        connection = await ada.link.connection(room.id, write=False)
        yield Scene(ada, room, reading, theirs, raw, connection)


def odd(member: Member) -> dict[str, tuple[bytes, bytes]]:
    """Header block and reply subject by name, as far as they fit."""
    blocks = {name: (block, b"") for name, block in {**ODD, **rows(member)}.items() if len(block) < 65_000}
    return blocks | {f"reply {reply[:9]!r}": (FINE, reply) for reply in ODD_REPLIES}


async def test_frames_are_read_on_behind_one_that_is_odd(scene: Scene) -> None:
    raw, reading = scene.raw, scene.reading
    subject = room_messages(scene.room.id, raw.member.user)
    told = ["first"]
    for name, (block, reply) in odd(raw.member).items():
        await raw.publish(block, b"no frame", reply, subject)
        await scene.theirs.send(name)
        told.append(name)
        assert await reading.until(len(told)) == told
    assert len(reading.refused) > len(ODD), "most of them are stored, and are no frames"
    assert scene.ada.link.up(scene.room.id) is scene.connection


async def test_signals_are_heard_on_behind_one_that_is_odd(scene: Scene) -> None:
    raw = scene.raw
    heard = scene.room.signals(on_refused=lambda _: None)
    first = asyncio.ensure_future(anext(heard))
    await scene.room.listen()
    connection = await scene.ada.link.connection(scene.room.id, write=False)
    await scene.theirs.signal("first")
    assert (await first).text == "first"
    subject = room_signals(scene.room.id, raw.member.user, "all")
    for name, (block, reply) in odd(raw.member).items():
        await raw.publish(block, b"no signal", reply, subject)
        await scene.theirs.signal(name)
        assert (await anext(heard)).text == name
    assert scene.ada.link.up(scene.room.id) is connection
    await heard.aclose()
