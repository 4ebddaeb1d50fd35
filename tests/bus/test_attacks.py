"""A member who turns the server's own features against the others: reply subjects, headers, tracing."""

import json
import secrets

import pytest

from tests.bus.raw_headers import ODD, ODD_REPLIES, STOPS, headers, raw_member, rows
from tests.bus.stage import OTHER_ROOM, ROOM, Stage
from unibus.model import subjects

DELETE = f"$JS.API.STREAM.DELETE.{subjects.STREAM}"
PURGE = f"$JS.API.STREAM.PURGE.{subjects.STREAM}"


@pytest.mark.parametrize("target", [DELETE, PURGE, "$SYS.REQ.SERVER.PING.RELOAD"])
async def test_a_reply_subject_cannot_make_the_server_act(stage: Stage, target: str) -> None:
    """nats-server never checks a reply subject against permissions; the accounts are what keeps it harmless."""
    alice = stage.member(ROOM)
    async with stage.connect(alice) as a:
        reading = await a.read()
        await a.publish(data=b"kept")
        for subject, data in [
            (alice.sender(), b""),
            (subjects.control(alice.user, "deliver"), b""),
            ("$JS.FC.ROOMS.x.y", b""),
            (f"$JS.FC.ROOMS.{reading.token}.y", b"{}"),
        ]:
            await a.client.publish(subject, data, reply=target)
        assert (await a.publish(data=b"after"))["seq"] == 3
        assert await reading.bodies(3) == [b"kept", b"", b"after"]


async def test_a_reply_subject_cannot_store_a_frame_of_somebody_else(stage: Stage) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM, OTHER_ROOM)
    async with stage.connect(alice) as a, stage.connect(bob) as b:
        forged = await b.read(OTHER_ROOM)
        await a.client.publish(alice.sender(), b"x", reply=bob.sender(OTHER_ROOM))
        await a.client.publish(subjects.control(alice.user, "deliver"), b"{}", reply=bob.sender(OTHER_ROOM))
        assert (await a.publish())["seq"] == 2
        await b.publish(OTHER_ROOM, b"the only one")
        frame = await forged.next()
    assert frame.data == b"the only one"
    assert frame.reply.split(".")[5] == "3"


async def test_a_request_cannot_be_made_in_somebody_elses_name(stage: Stage) -> None:
    """The answer to one request sent on as another's request: it must not reach the daemon."""
    alice, bob = stage.member(ROOM), stage.member(OTHER_ROOM)
    async with stage.connect(alice) as a:
        await a.client.publish(alice.sender(), b"x", reply=subjects.control(bob.user, "deliver"))
        await a.publish()
        request = json.dumps({"room": ROOM, "token": "t" * 22, "after": 0}).encode()
        await a.client.publish(
            subjects.control(alice.user, "deliver"), request, reply=subjects.control(bob.user, "deliver")
        )
        assert "error" not in await a.ask({"room": ROOM, "token": "u" * 22, "after": 0})
    assert bob.user not in {stage.policy.asked.get_nowait() for _ in range(stage.policy.asked.qsize())}


@pytest.mark.parametrize(
    "headers",
    [
        {"Nats_Rollup": "all"},
        {"Nats_Rollup": "sub"},
        {"Nats_TTL": "1s"},
        {"Nats_Incr": "5"},
        {"Nats_Schedule": "@every 1s", "Nats_Schedule_Target": f"room.{OTHER_ROOM}.msg.x"},
        {"Nats_Batch_Id": "x", "Nats_Batch_Sequence": "1"},
    ],
    ids=lambda headers: next(iter(headers)),
)
async def test_headers_that_act_on_other_messages_are_refused(stage: Stage, headers: dict[str, str]) -> None:
    async with stage.connect(stage.member(ROOM)) as a:
        await a.publish(data=b"kept")
        assert "error" in await a.publish(data=b"x", **headers)
        assert (await a.publish(data=b"after"))["seq"] == 2


async def test_no_header_stops_the_messages_of_one_node(stage: Stage) -> None:
    """What stops a cluster does nothing here, either."""
    mallory = stage.member(ROOM)
    async with stage.connect(stage.member(ROOM)) as honest:
        for name, block in {**rows(mallory), "stops a cluster": STOPS}.items():
            async with raw_member(stage.plane.client_port, mallory) as raw:
                for body in (b"", b"x"):
                    await raw.publish(block, body, f"{subjects.inbox_prefix(mallory.user)}.x")
            assert "error" not in await honest.publish(), name
    assert (stage.plane.status()["restarts"], stage.plane.status()["reasons"]) == (0, [])


async def test_nothing_odd_in_a_request_keeps_the_daemon_from_others(stage: Stage) -> None:
    """What nobody checks on the way: the blocks of headers, and the reply subject."""
    mallory, fine = stage.member(ROOM), headers(("X", "y"))
    control = subjects.control(mallory.user, "deliver")
    async with stage.connect(stage.member(ROOM)) as honest, raw_member(stage.plane.client_port, mallory) as raw:
        for block, reply in [*((block, b"") for block in ODD.values()), *((fine, reply) for reply in ODD_REPLIES)]:
            await raw.publish(block, b"{}", reply or f"{subjects.inbox_prefix(mallory.user)}.x", control)
            assert "error" not in await honest.ask({"room": ROOM, "token": secrets.token_urlsafe(16)}), (block, reply)
    assert (stage.plane.status()["restarts"], stage.plane.status()["reasons"]) == (0, [])


async def test_the_daemon_does_not_hand_on_the_headers_of_who_asks(stage: Stage) -> None:
    """An answer goes wherever who asks wants it to. It says only what the daemon says."""
    alice, bob = stage.member(ROOM), stage.member(ROOM)
    events = subjects.events(bob.user)
    async with stage.connect(alice) as a, stage.connect(bob) as b:
        heard = await b.client.subscribe(events)
        await b.client.flush()
        named = {"Status": "503", "X": "y"}
        await a.client.publish(subjects.control(alice.user, "deliver"), b"{}", reply=events, headers=named)
        assert (await heard.next_msg(10)).headers is None


@pytest.mark.parametrize("only", [{}, {"Nats-Trace-Only": "true"}], ids=["trace", "trace only"])
async def test_tracing_cannot_speak_where_its_sender_may_not(stage: Stage, only: dict[str, str]) -> None:
    alice, bob = stage.member(ROOM), stage.member(ROOM)
    async with stage.connect(alice) as a:
        for target in (subjects.events(bob.user), subjects.delivery(bob.user, "t" * 22), DELETE):
            await a.client.publish(alice.sender(), b"x", headers={"Nats-Trace-Dest": target, **only})
            assert "permissions violation" in await a.refused()


async def test_a_token_in_use_cannot_be_taken_over(stage: Stage) -> None:
    alice, mallory = stage.member(ROOM), stage.member(ROOM, OTHER_ROOM)
    async with stage.connect(alice) as a, stage.connect(mallory) as m:
        reading = await a.read()
        stolen = await m.ask({"room": OTHER_ROOM, "token": reading.token, "after": 0})
        assert stolen["error"]["code"] == "invalid-input"  # type: ignore[index]  # JSON of a known form
        await a.publish(data=b"still mine")
        assert await reading.bodies(1) == [b"still mine"]
