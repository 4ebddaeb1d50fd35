"""Sealing while the room changes: a key that is on its way must not be used for what has begun meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.builders import identity
from tests.client.hostile import Answer, Server, always
from tests.client.world import World
from unibus.client.bus import Bus, connect
from unibus.client.changes import Change
from unibus.client.sealer import Sealer
from unibus.crypto.encoding import dump_json, unb64u
from unibus.crypto.frames import open_frame, read_envelope
from unibus.errors import NotFound, Untrusted
from unibus.model.records import read_record, room_log
from unibus.model.wire import AppendRequest, HeadView


@pytest.fixture
async def bus(server: Server) -> AsyncIterator[Bus]:
    """Bob's."""
    async with connect(server.url, identity("bob")) as bus:
        yield bus


def taking(server: Server, plans: str) -> Answer:
    """The room's records, which can be added to."""

    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            return server.records(room_log(plans), request)
        body = AppendRequest.model_validate_json(await request.read())
        sealed = {user: unb64u(key) for user, key in body.sealed.items()}
        head = server.world.take(Change(room_log(plans), body.record.encode(), sealed)).head
        return web.json_response(text=HeadView(sequence=head.sequence, hash=head.hash).model_dump_json())

    return answer


def during_the_first_key(server: Server, bus: Bus, plans: str, change: str) -> Answer:
    """The keys as they are when they are asked for; before they arrive, once, the client hears of a `change`."""
    left = [change]

    async def answer(request: web.Request) -> web.Response:
        page = server.keys(room_log(plans), request)
        while left:
            if left.pop() == "rotation":
                server.world.rotate(plans)
            else:
                server.world.revoke("mallory")
            await bus.replica.sync_directory()
            await bus.replica.sync_room(plans)
        return page

    return answer


@pytest.mark.parametrize("change", ["rotation", "revocation"])
async def test_what_changes_while_the_key_is_on_its_way_counts(
    server: Server, bus: Bus, world: World, plans: str, change: str
) -> None:
    room = await bus.room("plans")
    epochs = len(world.rooms[plans].epochs)
    server.answers[f"/v1/rooms/{plans}/keys"] = during_the_first_key(server, bus, plans, change)
    server.answers[f"/v1/rooms/{plans}/records"] = taking(server, plans)
    frame = (await Sealer(bus, room).ready(doubt=False))([b"after it"])
    state = server.world.rooms[plans]
    assert len(state.epochs) == epochs + 1
    envelope = read_envelope(frame)
    assert envelope.epoch == epochs + 1
    key = await bus.keyring.key(state, envelope.epoch)
    content = open_frame(frame, envelope, key, state.epoch_ref(envelope.epoch))
    assert content.messages == (b"after it",)
    assert (content.room_head, content.directory_head) == (state.head, server.world.directory.head)
    assert read_record(server.world.logs[room_log(plans)][-1]).type == "room.rotate"


async def test_a_new_key_that_the_server_only_claims_to_have_stored_ends_the_sending(
    server: Server, bus: Bus, plans: str
) -> None:
    """Else the messages after a revocation would go on under a key that the revoked user has."""
    room = await bus.room("plans")
    server.world.revoke("mallory")
    await bus.replica.sync_directory()

    async def claim(request: web.Request) -> web.Response:
        if request.method == "GET":
            return server.records(room_log(plans), request)
        return web.json_response(text=HeadView(sequence=99, hash=server.world.bus).model_dump_json())

    server.answers[f"/v1/rooms/{plans}/records"] = claim
    with pytest.raises(Untrusted, match="does not show it"):
        await Sealer(bus, room).ready(doubt=False)


async def test_a_room_that_is_gone_after_its_new_key_was_stored_ends_the_sending(
    server: Server, bus: Bus, plans: str
) -> None:
    room = await bus.room("plans")
    server.world.revoke("mallory")
    await bus.replica.sync_directory()
    take = taking(server, plans)
    gone = always(404, b'{"type":"urn:unibus:problem:not-found"}')
    posted = []

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "POST":
            posted.append(request)
        return await (gone if posted and request.method == "GET" else take)(request)

    server.answers[f"/v1/rooms/{plans}/records"] = answer
    with pytest.raises(NotFound):
        await Sealer(bus, room).ready(doubt=False)
    assert len(posted) == 1


async def test_news_that_could_not_be_had_is_asked_for_before_anything_is_sent(server: Server, plans: str) -> None:
    async with connect(server.url, identity("bob"), deadline=0.3) as bus:
        room = await bus.room("plans")
        server.answers[f"/v1/rooms/{plans}/records"] = always(503)
        bus.following.announced(dump_json({"log": room_log(plans)}))  # what the link calls; there is no bus here
        await asyncio.gather(*bus.following.tasks.values())  # to wait without asking what is tested
        server.answers.clear()
        server.world.rotate(plans)
        frame = (await room._sealer.ready(doubt=False))([b"later"])  # noqa: SLF001 - what the outbox calls
        assert read_envelope(frame).epoch == server.world.rooms[plans].epoch.number
