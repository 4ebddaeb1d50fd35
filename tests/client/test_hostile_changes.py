"""Lies to who changes something: about what was stored, who is meant, and which room is meant."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count

import pytest
from aiohttp import web

from tests.builders import AT, identity, user
from tests.client.hostile import Answer, Server, always, shown
from unibus import connect
from unibus.client.changes import Change
from unibus.client.joining import join_bus
from unibus.client.room import Room
from unibus.crypto.encoding import b64u
from unibus.crypto.invites import InviteToken
from unibus.crypto.nkeys import SigningKey
from unibus.errors import NotFound, Untrusted
from unibus.model.bodies import RoomRename
from unibus.model.records import DIRECTORY
from unibus.model.wire import HeadView, JoinRequest, JoinView, RoomsPage

ADA, BOB = identity("ada"), identity("bob")
SAID = HeadView(sequence=1, hash=b64u(bytes(32))).model_dump_json()
GONE = b'{"type":"urn:unibus:problem:not-found"}'


def says_it_is_stored(server: Server, path: str, then: Answer) -> None:
    """From the first append to `path` on, which is not stored, reads of it are answered with `then`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            del server.answers[path]
            try:
                return await server.handle(request)
            finally:
                server.answers[path] = answer
        server.answers[path] = then
        return web.json_response(text=SAID, status=201)

    server.answers[path] = answer


@pytest.mark.parametrize("how", ["shown as before", "not shown at all"])
@pytest.mark.parametrize(
    "change",
    [lambda room: room.remove("bob"), lambda room: room.rotate(), lambda room: room.set_role("bob", "reader")],
    ids=["remove", "rotate", "role"],
)
async def test_a_change_that_is_only_said_to_be_stored_has_not_succeeded(
    server: Server, plans: str, change: Callable[[Room], Awaitable[None]], how: str
) -> None:
    path = f"/v1/rooms/{plans}/records"

    async def before(request: web.Request) -> web.StreamResponse:
        return server.records(f"room/{plans}", request)

    async with connect(server.url, ADA) as bus:
        room = await bus.room(plans)
        says_it_is_stored(server, path, before if how == "shown as before" else always(404, GONE))
        with pytest.raises((Untrusted, NotFound)):
            await change(room)


async def test_a_room_that_is_named_by_its_id_is_no_room_that_is_called_so(server: Server, plans: str) -> None:
    """Anybody may add anybody to a room of theirs, and call it what they like."""
    world = server.world
    trap = world.create("trap", by="mallory")
    world.add(trap, "bob", by="mallory")
    called = RoomRename(name=plans)  # what an honest client does not let her
    world.take(world.signer("mallory").plain(world.rooms[trap], world.directory, called))
    server.answers[f"/v1/rooms/{plans}/records"] = always(404, GONE)
    async with connect(server.url, BOB) as bus:
        assert plans in {room.name for room in await bus.rooms()}
        with pytest.raises(NotFound):
            await bus.room(plans)
        assert (await bus.room(trap)).name == plans


async def test_who_is_removed_is_who_has_the_handle_now(server: Server, plans: str) -> None:
    world = server.world
    world.revoke("bob")
    change = world.signer("ada").admit(world.directory, "bob", identity("bob again").card(), "member")
    world.take(change)
    world.add(plans, "bob again")
    async with connect(server.url, ADA) as bus:
        room = await bus.room(plans)
        assert bus.find("bob", among=room.state.roles).user == user("bob again")
        assert bus.find(user("bob"), among=room.state.roles).user == user("bob")


async def test_a_list_of_rooms_without_end_is_given_up(server: Server, plans: str) -> None:
    numbers = count()

    def page(*rooms: str) -> Answer:
        async def answer(_request: web.Request) -> web.Response:
            return shown(RoomsPage(rooms=list(rooms), next=f"{next(numbers):026}"))

        return answer

    async with asyncio.timeout(20), connect(server.url, BOB) as bus:
        for rooms in ((), (plans,), ("a" * 26,)):
            server.answers["/v1/rooms"] = page(*rooms)
            with pytest.raises(Untrusted):
                await bus.rooms()


@pytest.mark.parametrize("wanted", ["zoe", None])
async def test_a_server_does_not_choose_what_somebody_is_called(server: Server, wanted: str | None) -> None:
    world = server.world
    token = InviteToken(world.bus, SigningKey.from_seed(bytes(32)), server.url)
    world.take(world.signer("ada").invite(world.directory, token.key.public, "member", AT + 3600, None))

    async def join(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            head = world.directory.head
            return web.json_response(
                text=JoinView(head=HeadView(sequence=head.sequence, hash=head.hash), handle="ada-").model_dump_json()
            )
        found = JoinRequest.model_validate_json(await request.read())
        world.take(Change(DIRECTORY, found.record.encode(), {}))
        return web.json_response(text=SAID, status=201)

    server.answers["/v1/join"] = join
    with pytest.raises(Untrusted, match="joined as ada-"):
        await join_bus(token, identity("zoe"), wanted)
