"""A member who seals something else than the room's key: spoils what they alone say, and is removed all the same."""

import asyncio
import secrets
import time

from tests.support.people import WAIT, Place, tail
from unibus import Bus, Room
from unibus.client.changes import Signer
from unibus.crypto.encoding import b64u
from unibus.crypto.roomkey import seal_to, sealed_digest
from unibus.errors import SealedKeyInvalid
from unibus.model.bodies import RoomRotate
from unibus.model.records import read_record, room_log, write_record


async def spoil(bus: Bus, room: Room) -> None:
    """Begin an epoch as `bus`'s user, whose key nobody else gets: what is sealed to all opens to other bytes."""
    state, directory = room.state, bus.directory
    signer = Signer(bus.identity, int(time.time()), secrets.token_bytes)
    honest = signer.rotate(state, directory, await bus.keyring.key(state, state.epoch.number))
    body = read_record(honest.record).body
    assert isinstance(body, RoomRotate)
    ref = state.epoch_ref(body.epoch.number)
    sealed = {to: seal_to(bytes(32), ref, to, directory.users[to].sealing) for to in honest.sealed}
    body = body.model_copy(update={"sealed": b64u(sealed_digest(sealed))})
    log, head = room_log(state.id), state.head
    raw = write_record(bus.identity.signing, bus.id, log, head, body, at=signer.at, directory=directory.head)
    await bus.api.append(log, raw, sealed)
    assert honest.epoch is not None
    bus.keyring.add(state.id, *honest.epoch)
    await bus.replica.sync_room(state.id)


async def test_who_spoils_a_key_is_named_and_can_be_removed(node: tuple[object, Place]) -> None:
    _, place = node
    await place.found("bob", "mallory")
    async with (
        asyncio.timeout(WAIT),
        place.enter("ada") as ada,
        place.enter("bob") as bob,
        place.enter("mallory") as mallory,
    ):
        room = await ada.create_room("ops")
        for name in ("bob", "mallory"):
            await room.add(name)
        await room.send("before")
        theirs = await mallory.room("ops")
        await spoil(mallory, theirs)
        async with tail(await bob.room("ops")) as at_bob:
            await theirs.send("read this, if you can")
            assert await at_bob.until(1) == ["before"]
            await room.remove("mallory")
            await room.send("after")
            assert await at_bob.until(2) == ["before", "after"]
        (refusal,) = at_bob.refused
        assert isinstance(refusal.error, SealedKeyInvalid)
        assert refusal.sender == mallory.user
        assert room.members == {"ada": "owner", "bob": "member"}
