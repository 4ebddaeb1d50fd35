"""A real client against a control plane that lies about its logs: named by its kind, and nothing of it taken over."""

from pathlib import Path

import pytest

from tests.builders import identity
from tests.client.hostile import Server, always
from tests.client.lies import AGAINST_DIRECTORY, AGAINST_ROOM, MADE_UP, REWRITTEN, ROOM, Lie
from tests.client.world import World
from unibus import Bus, connect
from unibus.client.memory import Memory
from unibus.errors import LogForked, UnibusError, Untrusted, WrongBus
from unibus.model.records import DIRECTORY

BOB = identity("bob")
ABOUT_DIRECTORY = REWRITTEN[DIRECTORY] + MADE_UP[DIRECTORY] + AGAINST_DIRECTORY
ABOUT_ROOM = REWRITTEN[ROOM] + MADE_UP[ROOM] + AGAINST_ROOM


def heads(bus: Bus, plans: str) -> list[object]:
    room = bus.replica.rooms[plans]
    return [bus.directory.head, bus.directory.users.copy(), room.head, room.roles.copy(), room.epochs.copy()]


async def test_the_truth_is_taken(server: Server, state: Path, world: World, plans: str) -> None:
    async with connect(server.url, BOB, state=state) as bus:
        room = await bus.room("plans")
        assert room.id == plans
        assert room.members == {"ada": "owner", "bob": "member", "mallory": "member"}
        assert [user.handle for user in await bus.users()] == ["ada", "bob", "mallory"]
    expected = {DIRECTORY: world.directory.head, f"room/{plans}": world.rooms[plans].head}
    assert Memory(state).heads == expected


@pytest.mark.parametrize("lie", ABOUT_DIRECTORY, ids=str)
async def test_a_lie_about_the_directory_while_connected(
    server: Server, state: Path, world: World, plans: str, lie: Lie
) -> None:
    async with connect(server.url, BOB, state=state) as bus:
        await bus.rooms()
        before, remembered = heads(bus, plans), Memory(state).heads
        lie.tell(server, plans)
        with pytest.raises(UnibusError, match=lie.words) as caught:
            await bus.users()
        assert type(caught.value) is lie.error
        assert (heads(bus, plans), Memory(state).heads) == (before, remembered)
        server.world, server.answers = world, {}
        assert len(await bus.users()) == 3


@pytest.mark.parametrize("lie", ABOUT_ROOM, ids=str)
async def test_a_lie_about_a_room_while_connected(
    server: Server, state: Path, world: World, plans: str, lie: Lie
) -> None:
    async with connect(server.url, BOB, state=state) as bus:
        await bus.rooms()
        room = bus.replica.rooms[plans]
        before = (room.head, room.roles.copy(), room.epochs.copy(), Memory(state).heads[f"room/{plans}"])
        lie.tell(server, plans)
        with pytest.raises(UnibusError, match=lie.words) as caught:
            await bus.replica.sync_room(plans)
        assert type(caught.value) is lie.error
        assert (room.head, room.roles, room.epochs, Memory(state).heads[f"room/{plans}"]) == before
        if bus.directory.head == world.directory.head:  # some lies about a room come with true news of the directory
            server.world, server.answers = world, {}
            assert (await bus.replica.sync_room(plans)).head == world.rooms[plans].head


@pytest.mark.parametrize("lie", REWRITTEN[DIRECTORY], ids=str)
async def test_a_directory_rewritten_between_two_runs(server: Server, state: Path, plans: str, lie: Lie) -> None:
    async with connect(server.url, BOB, state=state):
        remembered = Memory(state).heads
    lie.tell(server, plans)
    with pytest.raises(UnibusError, match=lie.words) as caught:
        async with connect(server.url, BOB, state=state):
            pytest.fail("connected to a server that lies")
    assert type(caught.value) is lie.error
    assert Memory(state).heads == remembered


@pytest.mark.parametrize("lie", REWRITTEN[ROOM], ids=str)
async def test_a_room_rewritten_between_two_runs(
    server: Server, state: Path, world: World, plans: str, lie: Lie
) -> None:
    async with connect(server.url, BOB, state=state) as bus:
        await bus.rooms()
    lie.tell(server, plans)
    server.world.logs[DIRECTORY] = world.logs[DIRECTORY]  # true, so that only the room's log is a lie
    async with connect(server.url, BOB, state=state) as bus:
        with pytest.raises(UnibusError) as caught:
            await bus.rooms()
        assert type(caught.value) in {lie.error, LogForked}  # a fork may show first in the directory that it names
        assert bus.replica.rooms == {}
    assert Memory(state).heads[f"room/{plans}"] == world.rooms[plans].head


async def test_a_log_once_shown_empty_is_no_fork_later(server: Server, state: Path, world: World, plans: str) -> None:
    server.world.logs[f"room/{plans}"] = []
    async with connect(server.url, BOB, state=state) as bus:
        assert await bus.rooms() == []
    server.world = world
    async with connect(server.url, BOB, state=state) as bus:
        assert [room.name for room in await bus.rooms()] == ["plans"]


async def refused(url: str, bus: str | None, state: Path | None) -> UnibusError:
    with pytest.raises(UnibusError) as caught:
        async with connect(url, BOB, bus=bus, state=state):
            pytest.fail("connected to a server that lies")
    return caught.value


async def test_a_bus_that_its_first_record_does_not_make(server: Server, state: Path) -> None:
    other = World(seed="elsewhere")
    genuine = server.bus().body
    assert isinstance(genuine, bytes)

    for first in (other.logs[DIRECTORY][0], server.world.logs[DIRECTORY][1], b"garbage"):
        server.answers["/v1/bus"] = always(200, genuine.replace(server.world.genesis, first))
        assert type(await refused(server.url, None, state)) is Untrusted
    assert Memory(state).bus is None


async def test_another_bus_than_the_one_asked_for(server: Server, world: World) -> None:
    server.world = World(seed="elsewhere")
    server.world.admit("bob")
    error = await refused(server.url, world.bus, None)
    assert type(error) is WrongBus
    assert world.bus in error.message


async def test_another_bus_than_the_one_remembered(server: Server, state: Path) -> None:
    async with connect(server.url, BOB, state=state):
        remembered = Memory(state).heads
    server.world = World(seed="elsewhere")
    server.world.admit("bob")
    assert type(await refused(server.url, None, state)) is WrongBus
    assert Memory(state).heads == remembered


async def test_the_right_bus_named_over_a_directory_of_the_servers_own(server: Server, world: World) -> None:
    """Who knows the bus's id has all they need: the server's own admins cannot stand in for the bus's."""
    view = server.bus().body
    assert isinstance(view, bytes)
    server.answers["/v1/bus"] = always(200, view)
    server.world = World("mallory", seed="elsewhere")
    server.world.take(server.world.signer("mallory").admit(server.world.directory, "bob", BOB.card(), "member"))
    error = await refused(server.url, world.bus, None)
    assert type(error) is LogForked
    assert "does not begin with the record that makes" in error.message


async def test_the_first_contact_is_told_once(server: Server, state: Path, world: World) -> None:
    told: list[str] = []
    for _ in range(2):
        async with connect(server.url, BOB, state=state, on_first_contact=told.append):
            pass
    assert told == [world.bus]


async def test_who_is_not_on_the_bus_is_told_so(server: Server) -> None:
    for name in ("cyd", "nobody"):
        with pytest.raises(UnibusError, match="not on the bus"):
            async with connect(server.url, identity(name)):
                pytest.fail("connected")


async def test_a_room_of_others_is_not_taken_for_an_own_one(server: Server) -> None:
    theirs = server.world.create("plans", by="mallory")
    async with connect(server.url, BOB) as bus:
        server.rooms = [theirs]
        with pytest.raises(Untrusted, match="not in"):
            await bus.room("plans")


async def test_a_long_log_comes_in_pages(server: Server, world: World) -> None:
    server.page = 2
    async with connect(server.url, BOB) as bus:
        assert (await bus.room("plans")).state.head == next(iter(world.rooms.values())).head
