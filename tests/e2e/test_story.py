"""The main job, from an empty node on: people, an encrypted room, a removal, and a server that could read nothing."""

import asyncio

import nats.errors
import pytest

from tests.builders import identity
from tests.support.people import WAIT, Place, tail
from unibus.client.connection import Client
from unibus.daemon.node import Node
from unibus.errors import Forbidden, NotAUser, NotFound
from unibus.model import subjects
from unibus.model.records import room_log


async def test_the_story(place: Place) -> None:
    await place.found("bob", "cyd")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob, place.enter("cyd") as cyd:
        room = await ada.create_room("ops")
        await room.add("bob")
        await room.add("cyd")
        assert room.members == {"ada": "owner", "bob": "member", "cyd": "member"}
        hers, theirs = await bob.room("ops"), await cyd.room("ops")
        async with tail(room) as at_ada, tail(hers) as at_bob, tail(theirs) as at_cyd:
            await room.send("hello from ada")
            await hers.send("hi from bob")
            said = ["hello from ada", "hi from bob"]
            for reading in (at_ada, at_bob, at_cyd):
                assert await reading.until(2) == said
            assert [message.handle for message in at_ada.got] == ["ada", "bob"]

            live = await cyd.link.connection(room.id)
            await room.remove("cyd")
            assert live.gone.is_set() or await asyncio.wait_for(live.gone.wait(), 5)
            assert isinstance(await at_cyd.end(), NotFound)
            await room.send("without cyd")
            assert await at_bob.until(3) == [*said, "without cyd"]
            assert at_cyd.texts == said
            with pytest.raises(NotFound):
                await theirs.send("let me in")
            with pytest.raises(NotFound):
                await cyd.room("ops")
            async with tail(theirs) as again:
                assert isinstance(await again.end(), NotFound)
        assert at_ada.refused == at_bob.refused == []
    on_disk = place.bytes_on_disk()
    for secret in ("hello from ada", "hi from bob", "without cyd", identity("ada").seed, identity("cyd").seed):
        assert secret.encode() not in on_disk
    assert room.id.encode() in on_disk  # what is not secret is found, so the search does search


async def test_no_room_key_is_on_the_servers_disk_and_none_of_a_later_epoch_is_sealed_to_who_was_removed(
    node: tuple[Node, Place],
) -> None:
    running, place = node
    await place.found("bob", "cyd")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        room = await ada.create_room("ops", "since-join")
        for name in ("bob", "cyd"):
            await room.add(name)
        await room.remove("cyd")
        await room.rotate()
        keys = {epoch: await ada.keyring.key(room.state, epoch) for epoch in room.state.epochs}
        gone = {name: identity(name).user for name in ("bob", "cyd")}
        log = room_log(room.id)
        sealed = {name: await running.store.attachments(log, user, 0, 100) for name, user in gone.items()}
    assert [entry.position for entry in sealed["bob"]] == [2, 3, 4, 5]
    assert [entry.position for entry in sealed["cyd"]] == [3]
    on_disk = place.bytes_on_disk()
    assert len(keys) == 5
    assert not any(key in on_disk for key in keys.values())


async def test_a_removed_member_who_leaves_our_client_aside_gets_no_further(node: tuple[Node, Place]) -> None:
    """Straight on NATS and HTTP with the identity's own seed, as the real attacker would."""
    running, place = node
    await place.found("bob", "cyd")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("cyd") as cyd:
        room = await ada.create_room("ops")
        await room.add("cyd")
        await room.remove("cyd")
        await room.send("without cyd")
        log = room_log(room.id)
        for ask in (cyd.api.records(log, 0), cyd.api.keys(log, 0)):
            with pytest.raises(NotFound):
                await ask
        key = identity("cyd").signing
        refusals: asyncio.Queue[str] = asyncio.Queue()

        async def note(error: Exception) -> None:
            refusals.put_nowait(str(error).lower())

        client = Client(key)
        await client.connect(
            f"nats://127.0.0.1:{running.bus.client_port}",
            signature_cb=client.prove,
            token=f"rooms={room.id}",
            inbox_prefix=subjects.inbox_prefix(key.public).encode(),
            error_cb=note,
            allow_reconnect=False,
        )
        try:
            asked = b'{"room":"%s","token":"%s","after":0}' % (room.id.encode(), b"t" * 22)
            answer = await client.request(subjects.control(key.public, "deliver"), asked, timeout=5)
            assert b"not-found" in answer.data
            for subject in (subjects.room_messages(room.id), subjects.delivery(identity("ada").user, ">"), ">"):
                await client.subscribe(subject)
            await client.publish(subjects.room_messages(room.id, key.public), b"let me in")
            for _ in range(4):
                assert "permissions violation" in await refusals.get()
        finally:
            await client.close()


async def test_a_reader_reads_and_does_not_write(place: Place) -> None:
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob", "reader")
        hers = await bob.room("ops")
        async with tail(hers) as at_bob:
            await room.send("read this")
            assert await at_bob.until(1) == ["read this"]
            with pytest.raises(Forbidden):
                await hers.send("me too")
            assert await at_bob.until(1) == ["read this"]


async def test_who_was_never_admitted_gets_nowhere(node: tuple[Node, Place]) -> None:
    running, place = node
    await place.found()
    with pytest.raises(NotAUser):
        async with place.enter("stranger"):
            pytest.fail("a stranger came in")
    client = Client(identity("stranger").signing)
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await client.connect(
            f"nats://127.0.0.1:{running.bus.client_port}",
            signature_cb=client.prove,
            token="rooms=",  # noqa: S106 - what a connection asks for, no secret
            allow_reconnect=False,
            max_reconnect_attempts=1,
            error_cb=_ignore,
        )
    await client.close()


async def _ignore(_error: Exception) -> None: ...
