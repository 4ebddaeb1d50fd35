"""What members may do on the bus, and what the server refuses them."""

import pytest

from tests.bus.stage import OTHER_ROOM, ROOM, Stage
from unibus.model import subjects


async def test_a_member_publishes_and_reads_its_room_in_order(stage: Stage) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM)
    async with stage.connect(alice) as a, stage.connect(bob) as b:
        assert await a.publish(data=b"one") == {"stream": subjects.STREAM, "seq": 1}
        reading = await b.read(after=0)
        assert reading.answer == {"after": 0}
        for number in range(2, 200):
            await a.client.publish(alice.sender(), b"%d" % number)
        assert await reading.bodies(199) == [b"one", *(b"%d" % number for number in range(2, 200))]


async def test_a_delivered_frame_keeps_its_subject_and_its_sequence(stage: Stage) -> None:
    alice = stage.member(ROOM)
    async with stage.connect(alice) as a:
        reading = await a.read()
        await a.publish()
        frame = await reading.next()
    assert frame.subject == alice.sender()
    assert frame.reply.split(".")[:6] == ["$JS", "ACK", subjects.STREAM, reading.token, "1", "1"]


async def test_one_message_id_is_stored_once(stage: Stage) -> None:
    async with stage.connect(stage.member(ROOM)) as a:
        first = await a.publish(Nats_Msg_Id="unguessable")
        again = await a.publish(Nats_Msg_Id="unguessable")
    assert again == {**first, "duplicate": True}


async def test_announcements_reach_exactly_their_users(stage: Stage) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM)
    async with stage.connect(alice) as a, stage.connect(bob) as b:
        to_alice = await a.client.subscribe(subjects.events(alice.user))
        to_bob = await b.client.subscribe(subjects.events(bob.user))
        await a.client.flush()
        await b.client.flush()
        await stage.plane.announce([alice.user], "room.x", 7, "digest")
        await stage.plane.announce([bob.user], "room.y", 8, "digest")
        assert (await to_alice.next_msg()).data == b'{"hash":"digest","log":"room.x","sequence":7}'
        # Bob's subscription would have held Alice's announcement before his own.
        assert (await to_bob.next_msg()).data == b'{"hash":"digest","log":"room.y","sequence":8}'


async def test_a_connection_opens_only_the_rooms_it_names(stage: Stage) -> None:
    alice = stage.member(ROOM, OTHER_ROOM)
    async with stage.connect(alice, rooms=f"rooms={ROOM}") as a:
        assert (await a.publish(ROOM))["seq"] == 1
        await a.client.publish(alice.sender(OTHER_ROOM), b"x")
        assert "permissions violation for publish" in await a.refused()


async def test_a_connection_may_carry_a_thousand_rooms(stage: Stage) -> None:
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    names = [f"{alphabet[n // 676 % 26]}{alphabet[n // 26 % 26]}{alphabet[n % 26]}".ljust(26, "a") for n in range(1000)]
    alice = stage.member(*names)
    async with stage.connect(alice, rooms="rooms=" + ",".join(names)) as a:
        assert (await a.publish(names[-1]))["seq"] == 1


def _foreign_publishes(own: str, other: str) -> list[str]:
    return [
        subjects.room_messages(OTHER_ROOM, own),
        subjects.room_messages(ROOM, other),
        subjects.room_messages(ROOM, "*"),
        f"{subjects.room_messages(ROOM, own)}.more",
        subjects.control(other, "deliver"),
        subjects.control(own, "other"),
        subjects.delivery(other, "t" * 22),
        subjects.delivery(own, "t" * 22),
        subjects.events(other),
        subjects.events(own),
        f"{subjects.inbox_prefix(other)}.x",
        "$JS.API.STREAM.DELETE.ROOMS",
        "$JS.API.STREAM.MSG.GET.ROOMS",
        "$JS.API.DIRECT.GET.ROOMS",
        f"$JS.API.CONSUMER.CREATE.ROOMS.x.{subjects.room_messages(ROOM)}",
        "$JS.ACK.ROOMS.x.1.1.1.1.0",
        "$JS.FC.OTHER.x.y",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "$SYS.REQ.USER.AUTH",
        "$KV.directory.x",
        "anything",
    ]


async def test_nothing_else_can_be_published(stage: Stage) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM, OTHER_ROOM)
    async with stage.connect(alice) as a:
        for subject in _foreign_publishes(alice.user, bob.user):
            await a.client.publish(subject, b"{}")
            assert f'publish to "{subject.lower()}"' in await a.refused()
        assert (await a.publish())["seq"] == 1, "nothing was stored before"


def _foreign_subscriptions(own: str, other: str) -> list[str]:
    return [
        ">",
        "*.>",
        "room.>",
        subjects.room_messages(ROOM, own),
        subjects.control(own, "deliver"),
        subjects.delivery(other, "*"),
        subjects.delivery("*", "*"),
        subjects.events(other),
        subjects.events("*"),
        f"{subjects.inbox_prefix(other)}.>",
        "_INBOX.>",
        "_R_.>",
        "$JS.>",
        "$SYS.>",
        "$KV.>",
    ]


async def test_nothing_else_can_be_subscribed_to(stage: Stage) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM)
    async with stage.connect(alice) as a:
        for subject in _foreign_subscriptions(alice.user, bob.user):
            await a.client.subscribe(subject)
            assert f'subscription to "{subject.lower()}"' in await a.refused()


@pytest.mark.parametrize("size", [0, 1 << 20])
async def test_frames_up_to_the_limit_are_stored(stage: Stage, size: int) -> None:
    async with stage.connect(stage.member(ROOM)) as a:
        assert (await a.publish(data=b"x" * size))["seq"] == 1
