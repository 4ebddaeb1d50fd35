"""A client in another language, written from docs/protocol.md and the vectors alone, beside our own on one bus.

Neither side may be bent to the other: what fails here is a mistake in the page, in the vectors or in the library.
"""

import asyncio
import json
import os
import re
from io import BytesIO
from pathlib import Path

import pytest

from tests.builders import identity, user
from tests.interop.program import Client, run
from tests.support.daemon import Daemon
from tests.support.people import WAIT, Place, tail
from unibus import Bus
from unibus.client.sealer import Sealer
from unibus.crypto import nkeys
from unibus.crypto.encoding import b64u, unb64u
from unibus.crypto.frames import read_envelope
from unibus.model.subjects import room_messages


async def join(client: Client, ada: Bus, file: Path) -> dict[str, object]:
    """Bring jay, who is written in JavaScript, onto ada's bus."""
    invite = await ada.invite()
    return await client.does("join", file=str(file), token=invite.text, handle="jay")


@pytest.fixture
def jay(tmp_path: Path) -> Path:
    """Where jay keeps what jay knows."""
    return tmp_path / "jay.json"


async def test_the_vectors_hold_in_another_language(node: str) -> None:
    status, said = await run(node, "--test", "--test-reporter=tap", "vectors.test.js", "blobs.test.js")
    assert status == 0, said
    passed = re.search(r"^# pass (\d+)$", said, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > 150


async def test_it_joins_by_invite_reads_all_epochs_and_is_read(client: Client, place: Place, jay: Path) -> None:
    await place.found("bob", "cyd")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        await room.add("cyd", "reader")
        await room.send("one")
        await room.rotate()
        await (await bob.room("ops")).send("two")
        await room.remove("cyd")
        await asyncio.gather(*[room.send(text) for text in ("three", "four")])
        assert await join(client, ada, jay) == {"user": ada.find("jay").user}
        assert jay.stat().st_mode & 0o777 == 0o600  # noqa: ASYNC240  # it blocks for no time
        assert (await client.does("read", file=str(jay), room="ops", count=4))["refused"] == "not-found"
        await room.add("jay")
        told = await client.does("read", file=str(jay), room="ops", count=4)
        assert told["refused"] == []
        said = [("ada", "one"), ("bob", "two"), ("ada", "three"), ("ada", "four")]
        assert [(one["handle"], one["text"]) for one in told["messages"]] == said
        async with tail(await bob.room("ops")) as at_bob:
            sent = await client.does("send", file=str(jay), room="ops", texts=["five", "söx"])
            assert len(sent["numbers"]) == 2
            assert (await at_bob.until(6))[4:] == ["five", "söx"]
            assert [message.handle for message in at_bob.got[4:]] == ["jay", "jay"]
            assert at_bob.refused == []


async def test_it_changes_a_key_that_is_due_before_it_writes(client: Client, place: Place, jay: Path) -> None:
    await place.found("bob", "cyd")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        await join(client, ada, jay)
        for name, history in (("open", "shared"), ("closed", "since-join")):
            room = await ada.create_room(name, history)  # type: ignore[arg-type]  # the literal is lost in the tuple
            await room.add("bob")
            await room.add("cyd")
            await room.send("before")
            await room.add("jay")
        await ada.revoke("cyd")
        for name, seen in (("open", ["before", "after"]), ("closed", ["after"])):
            async with tail(await bob.room(name)) as at_bob:
                await client.does("send", file=str(jay), room=name, texts=["after"])
                assert await at_bob.until(2) == ["before", "after"]
                assert at_bob.refused == []
            told = await client.does("read", file=str(jay), room=name, count=len(seen))
            assert ([one["text"] for one in told["messages"]], told["refused"]) == (seen, [])


async def test_it_judges_every_type_of_record_alike(client: Client, place: Place, jay: Path) -> None:
    await place.found("bob", "cyd", "dan")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        await join(client, ada, jay)
        async with place.enter("dan") as dan:
            orphan = await dan.create_room("orphan")
            for handle in ("jay", "bob"):
                await orphan.add(handle)
        withdrawn = await ada.invite("admin", handle="eve")
        await ada.withdraw_invite(withdrawn.key.public)
        await ada.change_role("bob", "admin")
        await ada.rename("dan", "daniel")
        await ada.revoke("daniel")
        await bob.users()
        await (await bob.room("orphan")).set_role("bob", "owner")
        room = await ada.create_room("ops")
        for handle in ("jay", "bob", "cyd"):
            await room.add(handle, "reader")
        await room.set_role("cyd", "member")
        await room.rename("öps")
        await room.retain(seconds=3600, size=None)
        await room.rotate()
        await room.leave("bob")
        plans = await bob.create_room("plans", "since-join")
        await plans.add("jay")
        await plans.archive()
        told = await client.does("show", file=str(jay))
        await bob.users()
        users = bob.directory.users.values()
        assert told["users"] == {
            one.user: {"handle": one.handle, "role": one.role, "active": one.handle != "daniel"} for one in users
        }
        states = [(await bob.room(name)).state for name in ("öps", "plans", "orphan")]
        assert told["rooms"] == {
            state.name: {
                "history": state.history,
                "archived": state.archived > 0,
                "roles": state.roles,
                "epoch": state.epoch.number,
                "holders": sorted(state.holders()),
            }
            for state in states
        }


async def test_it_names_frames_that_are_left_out_or_change_places(client: Client, place: Place, jay: Path) -> None:
    await place.found()
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        await join(client, ada, jay)
        room = await ada.create_room("ops")
        await room.add("jay")
        seal = await Sealer(ada, room).ready(False)
        frames = [seal([f"m{number}".encode()], unsettled=open_) for number, open_ in enumerate((0, 0, 1, 0, 1, 2, 0))]
        envelope = read_envelope(frames[2])
        frames.append(seal([b"m2"], instead=(envelope.session, envelope.counter)))
        connection = await ada.link.connection(room.id)
        for number in (0, 2, 1, 4, 3, 6, 7):
            headers = {"Nats-Msg-Id": str(number)}
            await connection.nats.request(room_messages(room.id, ada.user), frames[number], timeout=5, headers=headers)
        told = await client.does("read", file=str(jay), room="ops", count=8)
        assert [one["text"] for one in told["messages"]] == ["m0", "m2", "m4", "m6"]
        assert told["refused"] == ["frame-reordered", "frame-reordered", "frame-missing", "frame-replayed"]


async def test_blobs_go_both_ways(client: Client, place: Place, jay: Path) -> None:
    await place.found()
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        await join(client, ada, jay)
        room = await ada.create_room("ops")
        await room.add("jay")
        for size in (0, 200_000):
            theirs, ours, fetched = os.urandom(size), os.urandom(size), jay.with_name(f"{size}")
            put = await client.does("put", file=str(jay), room="ops", name=f"theirs-{size}", data=b64u(theirs))
            blob = await room.get_blob(put["id"], fetched)
            assert (blob.name, blob.handle, fetched.read_bytes()) == (f"theirs-{size}", "jay", theirs)
            await room.put_blob(BytesIO(ours), f"ours-{size}")
            got = await client.does("get", file=str(jay), room="ops", name=f"ours-{size}")
            assert got == {"handle": "ada", "data": b64u(ours)}


async def test_an_invite_is_good_once_and_on_its_bus_alone(client: Client, place: Place, jay: Path) -> None:
    await place.found()
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        invite = await ada.invite()
        elsewhere = f"unibus1.{b64u(bytes(32) + invite.key.seed)}.{invite.text.rpartition('.')[2]}"
        for token, refusal in ((elsewhere, "wrong-bus"), (invite.text, None), (invite.text, "invite-used")):
            told = await client.does("join", file=str(jay), token=token, handle="jay")
            assert told.get("refused") == refusal


async def test_it_remembers_what_it_was_shown(client: Client, place: Place, jay: Path) -> None:
    await place.found()
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        await join(client, ada, jay)
        kept = json.loads(jay.read_text())  # noqa: ASYNC240  # a small file, and nobody else is waiting
        for sequence, refusal in ((99, "log-rolled-back"), (2, "log-forked")):
            lie = {"directory": {"seq": sequence, "hash": b64u(bytes(32))}}
            jay.write_text(json.dumps(kept | {"heads": lie}))  # noqa: ASYNC240  # as above
            assert (await client.does("show", file=str(jay)))["refused"] == refusal


async def test_a_stock_client_with_only_the_seed_reads_and_writes_frames(
    node: str, client: Client, daemon: Daemon, place: Place, jay: Path
) -> None:
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        await join(client, ada, jay)
        room, closed = await ada.create_room("ops"), await ada.create_room("closed")
        for handle in ("bob", "jay"):
            await room.add(handle)
        await room.send("hello")
        forbidden = [
            f"room.{room.id}.msg.{user('ada')}",
            f"room.{closed.id}.msg.{user('bob')}",
            f"ctl.{user('ada')}.deliver",
            "$JS.API.INFO",
        ]
        given = {
            "server": f"127.0.0.1:{daemon.nats_port}",
            "seed": identity("bob").seed,
            "user": user("bob"),
            "room": room.id,
            "frame": b64u(bytes(300)),
            "forbidden": forbidden,
        }
        status, out = await run(node, "raw.js", given=json.dumps(given).encode())
        assert status == 0
        told = json.loads(out)
        assert unb64u(told.pop("first"))[5:37] == nkeys.decode_public(user("ada"))
        assert told == {"opened": {"after": 0}, "stored": [2, 3], "refused": forbidden}
        await room.send("again")
        async with tail(await bob.room("ops")) as at_bob:
            assert await at_bob.until(2) == ["hello", "again"]
            refused = [refusal.error.code for refusal in at_bob.refused]
        assert refused == ["frame-invalid", "frame-invalid"]
        theirs = await client.does("read", file=str(jay), room="ops", count=4)
        assert ([one["text"] for one in theirs["messages"]], theirs["refused"]) == (["hello", "again"], refused)
