"""Room keys from a server that swaps, withholds or garbles them, and from members who seal something else."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.builders import identity, user
from tests.client.hostile import Server, always
from tests.client.world import World
from unibus.client.api import ControlApi
from unibus.client.changes import Change
from unibus.client.keyring import Keyring
from unibus.crypto.encoding import b64u
from unibus.crypto.roomkey import commitment, link, seal_to, sealed_digest
from unibus.errors import NotFound, SealedKeyInvalid, SealedKeyMissing, UnibusError
from unibus.model.bodies import Epoch, RoomRotate
from unibus.model.records import room_log, write_record


@pytest.fixture
async def keyring(server: Server) -> AsyncIterator[Keyring]:
    """Bob's."""
    api = ControlApi(server.url, identity("bob").signing, lambda: 1_800_000_000.0, 5.0)
    api.bus = server.world.bus
    await api.open()
    yield Keyring(api, identity("bob"))
    await api.close()


async def refused(keyring: Keyring, world: World, plans: str, epoch: int) -> UnibusError:
    with pytest.raises(UnibusError) as caught:
        await keyring.key(world.rooms[plans], epoch)
    return caught.value


async def test_all_epochs_of_a_shared_history_open(server: Server, keyring: Keyring, plans: str) -> None:
    world = server.world
    world.admit("dan")
    for _ in range(3):
        world.rotate(plans)
    for epoch in world.rooms[plans].epochs:
        assert await keyring.key(world.rooms[plans], epoch) == world.keys[plans, epoch]
    asked = len(server.seen)
    assert keyring.known(plans, 1) == world.keys[plans, 1]
    await keyring.key(world.rooms[plans], 1)
    assert len(server.seen) == asked


async def test_a_late_joiner_follows_the_links_back(server: Server, plans: str) -> None:
    world = server.world
    world.admit("dan")
    world.rotate(plans)
    world.add(plans, "dan")
    api = ControlApi(server.url, identity("dan").signing, lambda: 1_800_000_000.0, 5.0)
    api.bus = world.bus
    await api.open()
    try:
        for epoch in (1, 2, 3):
            assert await Keyring(api, identity("dan")).key(world.rooms[plans], epoch) == world.keys[plans, epoch]
    finally:
        await api.close()


async def test_with_history_since_join_what_was_before_stays_closed(server: Server, keyring: Keyring) -> None:
    world = server.world
    room = world.create("quiet", "since-join")
    world.add(room, "bob")
    error = await refused(keyring, world, room, 1)
    assert type(error) is NotFound
    assert "before you joined" in error.message
    assert await keyring.key(world.rooms[room], 2) == world.keys[room, 2]


async def test_a_withheld_key_is_named(server: Server, keyring: Keyring, plans: str) -> None:
    world = server.world
    world.sealed[room_log(plans), user("bob")] = []
    assert type(await refused(keyring, world, plans, 2)) is SealedKeyMissing


async def test_a_key_withheld_from_the_end_is_named_and_what_is_shown_opens(
    server: Server, keyring: Keyring, plans: str
) -> None:
    world = server.world
    world.sealed[room_log(plans), user("bob")].pop()
    assert type(await refused(keyring, world, plans, 2)) is SealedKeyMissing
    assert await keyring.key(world.rooms[plans], 1) == world.keys[plans, 1]


def other_key(world: World, plans: str, sequence: int) -> tuple[int, bytes]:
    """A well-made sealed key, with another room key in it."""
    ref = world.rooms[plans].epoch_ref(2)
    return sequence, seal_to(bytes(32), ref, user("bob"), identity("bob").sealing.public)


async def test_a_swapped_key_is_named(server: Server, keyring: Keyring, plans: str) -> None:
    world = server.world
    sealed = world.sealed[room_log(plans), user("bob")]
    sealed[-1] = other_key(world, plans, sealed[-1][0])
    error = await refused(keyring, world, plans, 2)
    assert type(error) is SealedKeyInvalid
    assert "another key than the record says" in error.message
    assert keyring.known(plans, 2) is None


@pytest.mark.parametrize("spoil", ["somebody else's", "two epochs crossed", "no sealed key", "no base64"])
async def test_what_does_not_open_is_named(server: Server, keyring: Keyring, plans: str, spoil: str) -> None:
    world = server.world
    log = room_log(plans)
    own = world.sealed[log, user("bob")]
    first, last = own[0], own[-1]
    if spoil == "somebody else's":
        own[-1] = (last[0], world.sealed[log, user("ada")][-1][1])
    elif spoil == "two epochs crossed":
        own[0], own[-1] = (first[0], last[1]), (last[0], first[1])
    elif spoil == "no sealed key":
        own[-1] = (last[0], b"short")
    else:
        body = f'{{"keys":[{{"sequence":{last[0]},"sealed":"=="}}]}}'.encode()
        server.answers[f"/v1/rooms/{plans}/keys"] = always(200, body)
    assert type(await refused(keyring, world, plans, 2)) is SealedKeyInvalid


@pytest.mark.parametrize("numbers", [[0], [10**9], [9, 8], [3, 3]], ids=str)
async def test_numbers_that_fit_no_record_end_the_asking(
    server: Server, keyring: Keyring, plans: str, numbers: list[int]
) -> None:
    sealed = b64u(server.world.sealed[room_log(plans), user("bob")][0][1])
    items = ",".join(f'{{"sequence":{number},"sealed":"{sealed}"}}' for number in numbers)
    server.answers[f"/v1/rooms/{plans}/keys"] = always(200, f'{{"keys":[{items}]}}'.encode())
    with pytest.raises(UnibusError):
        await keyring.key(server.world.rooms[plans], 2)
    assert len(server.seen) <= 2


def poisoned(world: World, plans: str, *, linked: bool) -> None:
    """Mallory, a member, starts an epoch whose key only she has; she seals something else to all others."""
    state = world.rooms[plans]
    number, secret = state.epoch.number + 1, bytes([6]) * 32
    ref = state.epoch_ref(number)
    sealed = {
        to: seal_to(bytes([7]) * 32, ref, to, world.directory.users[to].sealing)
        for to in state.members(world.directory)
    }
    before = link(secret, ref, world.key(plans)) if linked else bytes(48)
    epoch = Epoch(number=number, commitment=b64u(commitment(secret, ref)), previous=b64u(before))
    raw = write_record(
        identity("mallory").signing,
        world.bus,
        room_log(plans),
        state.head,
        RoomRotate(epoch=epoch, sealed=b64u(sealed_digest(sealed))),
        at=1_800_000_000,
        directory=world.directory.head,
    )
    world.take(Change(room_log(plans), raw, sealed, (number, secret)))


@pytest.mark.parametrize("linked", [True, False])
async def test_a_member_who_seals_something_else_spoils_one_epoch_only(
    server: Server, keyring: Keyring, plans: str, *, linked: bool
) -> None:
    world = server.world
    poisoned(world, plans, linked=linked)
    assert type(await refused(keyring, world, plans, 3)) is SealedKeyInvalid
    assert await keyring.key(world.rooms[plans], 2) == world.keys[plans, 2]
    world.keys[plans, 3] = bytes([8]) * 32  # what ada, who did not get the key either, can link to
    world.remove(plans, "mallory")
    assert await keyring.key(world.rooms[plans], 4) == world.keys[plans, 4]
    assert type(await refused(keyring, world, plans, 3)) is SealedKeyInvalid
    assert await keyring.key(world.rooms[plans], 1) == world.keys[plans, 1]


async def test_the_current_key_is_that_of_the_epoch_which_began_meanwhile(
    server: Server, keyring: Keyring, plans: str
) -> None:
    world = server.world
    left = [1]

    async def answer(request: web.Request) -> web.Response:
        page = server.keys(room_log(plans), request)
        while left:
            left.pop()
            world.rotate(plans)
        return page

    server.answers[f"/v1/rooms/{plans}/keys"] = answer
    assert await keyring.current(world.rooms[plans]) == world.key(plans)
