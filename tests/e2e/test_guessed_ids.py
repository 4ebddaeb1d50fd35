"""Message ids are the whole stream's: somebody who knew the next one of another could have that message dropped."""

import asyncio

from tests.builders import identity
from tests.bus.stage import Connection, Member
from tests.support.people import WAIT, Place, tail
from unibus.crypto.encoding import b64u
from unibus.daemon.node import Node

TURNS = 20


async def test_who_has_seen_every_id_so_far_cannot_swallow_the_next(node: tuple[Node, Place]) -> None:
    """Mallory, a member of the room, sees each frame with its id, and spends all ids that she could guess from that."""
    running, place = node
    await place.found("mallory")
    mallory = Connection(Member(identity("mallory").signing))
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        room = await ada.create_room("ops")
        await room.add("mallory")
        await mallory.open(running.bus.client_port, None)
        try:
            frames = await mallory.read(room.id)
            seen: list[str] = []
            for turn in range(TURNS):
                for guess in [str(turn), str(len(seen)), f"{ada.user}.{turn}", b64u(bytes(24)), *seen]:
                    await mallory.publish(room.id, b"no frame", Nats_Msg_Id=guess)
                await room.send("the same words")
                while (frame := await frames.next()).subject != f"room.{room.id}.msg.{ada.user}":
                    pass
                seen.append((frame.headers or {})["Nats-Msg-Id"])
                assert seen[-1] == b64u(frame.data[-64:-40]), "which is of the signature, so nobody knew it before"
            assert len(set(seen)) == TURNS
        finally:
            await mallory.client.close()
        async with tail(room) as reading:
            assert await reading.until(TURNS) == ["the same words"] * TURNS
