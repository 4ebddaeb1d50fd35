"""One row for each thing that a member may not do on the bus, tried with a raw client against the real server.

What matters is not only that the member is refused, but that nothing arrives where the daemon and JetStream are: so
the tests look on from inside their account.
"""

import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple

import pytest
from nats.aio.msg import Msg

from tests.bus.stage import OTHER_ROOM, ROOM, Connection, Member
from tests.bus.watched import Watched, watched
from unibus.bus import fellows, shut_out
from unibus.model import subjects

S, C, TOKEN = subjects.STREAM, "consumer", "t" * 22
EVIL = b'{"name":"EVIL","subjects":["evil.>"],"deliver_subject":"evil.x"}'

JETSTREAM = [
    "$JS.API.INFO",
    "$JS.API.ACCOUNT.PURGE.CORE",
    "$JS.API.ACCOUNT.STREAM.MOVE.CORE.ROOMS",
    "$JS.API.STREAM.CREATE.EVIL",
    f"$JS.API.STREAM.UPDATE.{S}",
    f"$JS.API.STREAM.INFO.{S}",
    f"$JS.API.STREAM.DELETE.{S}",
    f"$JS.API.STREAM.PURGE.{S}",
    f"$JS.API.STREAM.SNAPSHOT.{S}",
    f"$JS.API.STREAM.RESTORE.{S}",
    f"$JS.API.STREAM.MSG.GET.{S}",
    f"$JS.API.STREAM.MSG.DELETE.{S}",
    f"$JS.API.STREAM.PEER.REMOVE.{S}",
    f"$JS.API.STREAM.LEADER.STEPDOWN.{S}",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.NAMES",
    "$JS.API.META.LEADER.STEPDOWN",
    "$JS.API.SERVER.REMOVE",
    f"$JS.API.DIRECT.GET.{S}",
    f"$JS.API.DIRECT.GET.{S}.{subjects.room_messages(OTHER_ROOM, 'x')}",
    f"$JS.API.CONSUMER.CREATE.{S}",
    f"$JS.API.CONSUMER.CREATE.{S}.{C}",
    f"$JS.API.CONSUMER.CREATE.{S}.{C}.{subjects.room_messages(OTHER_ROOM, 'x')}",
    f"$JS.API.CONSUMER.DURABLE.CREATE.{S}.{C}",
    f"$JS.API.CONSUMER.DELETE.{S}.{C}",
    f"$JS.API.CONSUMER.INFO.{S}.{C}",
    f"$JS.API.CONSUMER.LIST.{S}",
    f"$JS.API.CONSUMER.NAMES.{S}",
    f"$JS.API.CONSUMER.PAUSE.{S}.{C}",
    f"$JS.API.CONSUMER.RESET.{S}.{C}",
    f"$JS.API.CONSUMER.UNPIN.{S}.{C}",
    f"$JS.API.CONSUMER.LEADER.STEPDOWN.{S}.{C}",
    f"$JS.API.CONSUMER.MSG.NEXT.{S}.{C}",
    f"$JS.ACK.{S}.{C}.1.1.1.1.0",
    f"$JS.SNAPSHOT.ACK.{S}.x",
    f"$JS.SNAPSHOT.RESTORE.{S}.x",
    f"$JSC.CI.{S}.{C}",
]
"""JetStream's calls by their subjects. Mirrors, sources and republishing are settings of the first two of a stream."""
SYSTEM = [
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.SERVER.PING.CONNZ",
    "$SYS.REQ.SERVER.PING.RELOAD",
    "$SYS.REQ.SERVER.PING.KICK",
    "$SYS.REQ.ACCOUNT.CORE.CONNZ",
    "$SYS.REQ.ACCOUNT.PING.STATZ",
    "$SYS.REQ.CLAIMS.UPDATE",
    "$SYS.REQ.USER.AUTH",
    "$SYS.REQ.USER.INFO",
    "$SYS._INBOX.x.y",
    "$SYS.ACCOUNT.BUS.CONNECT",
]
BUCKETS = ["$KV.directory.x", "$KV.unibus.x", "$O.blobs.C.x", "$O.blobs.M.x", "$MQTT.sess.x", "$NRG.V.x", "$LDS.x"]
BUCKETS += ["$O.unibus-blobs.C.x", "$O.unibus-blobs.M.x"]


class Scene(NamedTuple):
    """Mallory, who is in ROOM, and Bob, who is in both rooms."""

    bus: Watched
    mallory: Connection
    bob: Connection


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with watched(tmp_path) as bus:
        mallory, bob = bus.stage.member(ROOM), bus.stage.member(ROOM, OTHER_ROOM)
        async with bus.stage.connect(mallory) as m, bus.stage.connect(bob) as b:
            yield Scene(bus, m, b)


def reserved(member: Member, other: Member) -> list[str]:
    """The subjects that are another's, another room's, or the daemon's own."""
    return [
        subjects.room_messages(OTHER_ROOM, member.user),
        subjects.room_messages(OTHER_ROOM, other.user),
        subjects.room_messages(ROOM, other.user),
        subjects.room_messages(ROOM, "*"),
        "room.*.msg.*",
        "room.>",
        subjects.room_signals(ROOM, other.user, "all"),
        subjects.room_signals(OTHER_ROOM, member.user, "all"),
        subjects.control(other.user, "deliver"),
        subjects.control("*", "deliver"),
        subjects.delivery(other.user, TOKEN),
        subjects.delivery(member.user, TOKEN),
        subjects.events(other.user),
        subjects.events(member.user),
        f"{subjects.inbox_prefix(other.user)}.x",
        "_INBOX.x",
        "_R_.x.y",
        shut_out.SUBJECT,
        fellows.subject("n1"),
    ]


async def test_every_other_subject_is_refused_and_reaches_nobody(scene: Scene) -> None:
    mallory = scene.mallory
    every = [*JETSTREAM, *SYSTEM, *BUCKETS, *reserved(mallory.member, scene.bob.member), ">"]
    async with scene.bus.onlooker(scene.bus.keys.core) as core:
        for subject in every:
            await mallory.client.publish(subject, EVIL, reply=f"{subjects.inbox_prefix(mallory.member.user)}.answer")
            assert f'publish to "{subject.lower()}"' in await mallory.refused(), subject
        await mallory.publish()  # all before it has been dealt with
        await core.client.flush()
    assert set(every) & set(core.seen) == set()
    assert mallory.member.sender() in core.seen, "the onlooker would have seen them"
    assert (await scene.bob.publish())["seq"] == 2


async def test_no_subscription_hears_what_is_not_ones_own(scene: Scene) -> None:
    mallory, bob = scene.mallory, scene.bob
    tries = [
        *(">", "*", "*.>", "room.>", "room.*.msg.*", "room.*.sig.>", "dlv.>", "ev.>", "ctl.>", "_INBOX.>", "_R_.>"),
        *("$JS.>", "$JS.API.>", "$JS.EVENT.>", "$JS.ACK.>", subjects.FLOW_CONTROL, "$SYS.>", "$KV.>", "$O.>"),
        subjects.room_messages(ROOM, mallory.member.user),
        subjects.room_messages(OTHER_ROOM),
        subjects.room_signals(OTHER_ROOM),
        subjects.room_signals(ROOM, "*", bob.member.user),
        subjects.delivery(bob.member.user, "*"),
        subjects.delivery("*", "*"),
        subjects.events(bob.member.user),
        subjects.control(bob.member.user, "deliver"),
        f"{subjects.inbox_prefix(bob.member.user)}.>",
    ]
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    for subject in tries:
        for queue in ("", "workers"):
            await mallory.client.subscribe(subject, queue=queue, cb=hear)
            assert f'subscription to "{subject.lower()}"' in await mallory.refused(), subject
    reading = await bob.read(OTHER_ROOM)
    await bob.publish(OTHER_ROOM, b"secret")
    await reading.next()
    await mallory.publish()
    assert heard == []


def launches(mallory: Member, token: str) -> Iterable[tuple[str, bytes]]:
    """All that a member may publish to, with bodies that make the daemon, JetStream or nobody answer."""
    ask = subjects.control(mallory.user, "deliver")
    yield subjects.room_messages(ROOM, mallory.user), EVIL
    yield subjects.room_signals(ROOM, mallory.user, "all"), EVIL
    yield subjects.room_signals(ROOM, mallory.user, mallory.user), EVIL
    yield ask, EVIL
    yield ask, json.dumps({"room": ROOM, "token": token, "after": 0}).encode()
    yield f"$JS.FC.{S}.{token}.x", EVIL
    yield f"$JS.FC.{S}.x.y", EVIL


@pytest.mark.parametrize("kind", ["jetstream", "system", "buckets", "others"])
async def test_a_reply_subject_makes_nobody_speak_for_the_member(scene: Scene, kind: str) -> None:
    """nats-server does not check the reply subject of what is published: every target is tried from every subject."""
    bus, mallory, bob = scene
    member = mallory.member
    targets = {
        "jetstream": JETSTREAM,
        "system": SYSTEM,
        "buckets": BUCKETS,
        "others": reserved(member, bob.member),
    }[kind]
    await bob.publish(OTHER_ROOM, b"kept")
    reading = await bob.read(OTHER_ROOM)
    await reading.next()
    before = await streams(bus)
    async with bus.onlooker(bus.keys.core) as core, bus.onlooker(bus.keys.system) as system:
        sent = 0
        for number, target in enumerate(targets):
            for subject, body in launches(member, f"{number:022}"):
                await mallory.client.publish(subject, body, reply=target)
                sent += subject == member.sender()
        last = await mallory.publish()
        await core.client.flush()
        await system.client.flush()
    reached = set(targets) & {*core.seen, *system.seen}
    assert reached <= {f"$JS.API.STREAM.INFO.{S}"}, "which the daemon itself asks now and then"
    assert int(str(last["seq"])) <= sent + 2, "nothing was stored but what mallory wrote into her own room"
    assert await streams(bus) == before
    assert not bob.closed.is_set()
    assert reading.waiting == 0
    await bob.publish(OTHER_ROOM, b"goes on")
    assert (await reading.next()).data == b"goes on"


async def streams(bus: Watched) -> dict[str, object]:
    """The streams' names, and the settings of the one that there is."""
    async with bus.inside(bus.keys.core) as client:
        names = json.loads((await client.request("$JS.API.STREAM.NAMES", b"")).data)
        info = json.loads((await client.request(f"$JS.API.STREAM.INFO.{S}", b"")).data)
    return {"names": names["streams"], "config": info["config"], "first": info["state"]["first_seq"]}


async def test_what_a_reply_subject_brings_another_member_is_the_servers_words_and_never_the_attackers(
    scene: Scene,
) -> None:
    """A member's acknowledgement can be aimed at another's own subjects. It says nothing that a client would take."""
    _, mallory, bob = scene
    reading = await bob.read(ROOM, after=0)
    heard: list[bytes] = []

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    events, inbox = subjects.events(bob.member.user), subjects.inbox_prefix(bob.member.user)
    await bob.client.subscribe(events, cb=hear)
    await bob.client.flush()
    targets = (events, f"{inbox}.x", subjects.delivery(bob.member.user, reading.token))
    for target in targets:
        for subject, body in launches(mallory.member, "u" * 22):
            await mallory.client.publish(subject, body, reply=target)
    await mallory.publish(data=b"last")
    frames: list[Msg] = []
    while not frames or frames[-1].data != b"last":
        frames.append(await reading.next())
    assert heard
    assert all(isinstance(json.loads(data), dict) and b"EVIL" not in data for data in heard)
    stored = [frame for frame in frames if frame.subject == mallory.member.sender()]
    assert [frame.reply.split(".")[6] for frame in stored] == [str(n) for n in range(1, len(stored) + 1)]
    assert all(not frame.reply for frame in frames if frame not in stored)


async def test_a_guessed_message_id_drops_what_uses_it_so_ids_must_be_unguessable(scene: Scene) -> None:
    """Ids are the whole stream's: this is why a client takes them from a signature. The end-to-end tests show that."""
    taken = await scene.mallory.publish(Nats_Msg_Id="1")
    assert await scene.bob.publish(OTHER_ROOM, Nats_Msg_Id="1") == {**taken, "duplicate": True}
    assert (await scene.bob.publish(OTHER_ROOM, Nats_Msg_Id="2"))["seq"] == 2


EXPECTED: list[tuple[dict[str, str], str]] = [
    ({"Nats_Expected_Stream": "OTHER"}, "expected stream does not match"),
    ({"Nats_Expected_Last_Msg_Id": "x"}, "wrong last msg ID: "),
    ({"Nats_Expected_Last_Sequence": "7"}, "wrong last sequence: 2"),
    ({"Nats_Expected_Last_Subject_Sequence": "7"}, "wrong last sequence: 2"),
    (
        {
            "Nats_Expected_Last_Subject_Sequence": "7",
            "Nats_Expected_Last_Subject_Sequence_Subject": subjects.room_messages(OTHER_ROOM),
        },
        "wrong last sequence: 1",
    ),
]


@pytest.mark.parametrize(
    ("headers", "answer"), EXPECTED, ids=lambda value: "+".join(value) if isinstance(value, dict) else ""
)
async def test_an_expectation_refuses_ones_own_frame_and_tells_a_number_at_most(
    scene: Scene, headers: dict[str, str], answer: str
) -> None:
    """The last row is all that a member can learn about a room of others: the number of its newest frame."""
    await scene.bob.publish(OTHER_ROOM, b"secret")
    await scene.mallory.publish(data=b"own")
    refused = await scene.mallory.publish(data=b"x", **headers)
    assert refused["error"] == {"code": 400, "err_code": pytest.approx(10065, abs=6), "description": answer}
    assert refused["seq"] == 0
    reading = await scene.bob.read(ROOM)
    await scene.mallory.publish(data=b"after")
    assert await reading.bodies(2) == [b"own", b"after"]
