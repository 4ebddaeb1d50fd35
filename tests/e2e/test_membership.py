"""Everything that changes who may do what, on a real node: invites, roles, handles, leaving, archiving, the trail."""

import asyncio
from pathlib import Path

import aiohttp
import nats.aio.client
import nats.errors
import pytest

from tests.builders import identity, user
from tests.e2e.conftest import StartDaemon
from tests.support.people import WAIT, Place, tail
from unibus.client.joining import join_bus
from unibus.crypto.encoding import b64u
from unibus.crypto.invites import InviteToken, read_token
from unibus.daemon.node import Node
from unibus.errors import (
    Forbidden,
    InvalidInput,
    InviteExpired,
    InviteUnknown,
    InviteUsed,
    InviteWithdrawn,
    NotFound,
    RuleBroken,
    UnibusError,
    WrongBus,
)


async def test_an_invite_lets_one_newcomer_in_once(place: Place, tmp_path: Path) -> None:
    await place.found()
    async with asyncio.timeout(WAIT), place.enter("ada") as ada:
        token = read_token((await ada.invite()).text)
        assert await join_bus(token, identity("zoe"), "zoe", state=tmp_path / "zoe.state") == "zoe"
        with pytest.raises(InviteUsed):
            await join_bus(token, identity("eve"), "eve")
        async with place.enter("zoe", tmp_path / "zoe.state") as zoe:
            assert [found.handle for found in await zoe.users()] == ["ada", "zoe"]
            assert zoe.directory.invites[token.key.public].used == user("zoe")
    assert b64u(token.key.seed).encode() not in place.bytes_on_disk()


async def test_invites_that_cannot_be_used_are_told_apart(place: Place) -> None:
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        with pytest.raises(Forbidden):
            await bob.invite()

        async def refused(token: InviteToken, error: type[UnibusError], handle: str | None = "zoe") -> None:
            with pytest.raises(error):
                await join_bus(token, identity("zoe"), handle)

        withdrawn = await ada.invite()
        await ada.withdraw_invite(withdrawn.key.public)
        await refused(withdrawn, InviteWithdrawn)
        expired = await ada.invite(seconds=1)
        await asyncio.sleep(2.1)
        await refused(expired, InviteExpired)
        await refused(InviteToken(ada.id, identity("eve").signing, place.url), InviteUnknown)
        good = await ada.invite()
        await refused(InviteToken(b64u(bytes(32)), good.key, place.url), WrongBus)
        await refused(good, RuleBroken, "bob")
        await refused(good, InvalidInput, None)
        named = await ada.invite(handle="zoe", role="admin")
        assert await join_bus(named, identity("zoe"), "somebody-else") == "zoe"
        assert (await ada.replica.sync_directory()).is_admin(user("zoe"))


async def test_an_invite_ends_with_its_inviters_office(place: Place) -> None:
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        await ada.change_role("bob", "admin")
        await bob.replica.sync_directory()
        token = await bob.invite()
        await ada.change_role("bob", "member")
        with pytest.raises(InviteWithdrawn):
            await join_bus(token, identity("zoe"), "zoe")


async def test_roles_and_handles_change(place: Place) -> None:
    await place.found("bob", "cyd")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        with pytest.raises(RuleBroken, match="last admin"):
            await ada.change_role("ada", "member")
        with pytest.raises(Forbidden):
            await bob.rename("cyd", "sid")
        with pytest.raises(RuleBroken, match="taken"):
            await bob.rename("bob", "ada")
        await bob.rename("bob", "robert")
        await ada.rename("cyd", "bob")
        assert [(found.handle, found.user) for found in await ada.users()] == [
            ("ada", user("ada")),
            ("bob", user("cyd")),
            ("robert", user("bob")),
        ]


async def test_a_reader_who_becomes_a_member_writes_and_one_who_is_demoted_stops_at_once(place: Place) -> None:
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob", "reader")
        hers = await bob.room("ops")
        async with tail(hers) as at_bob:
            await room.send("one")
            assert await at_bob.until(1) == ["one"]
            with pytest.raises(Forbidden, match="reader"):
                await hers.send("may i")
            await room.set_role("bob", "member")
            await hers.send("now i may")
            live = await bob.link.connection(room.id)
            await room.set_role("bob", "reader")
            await asyncio.wait_for(live.gone.wait(), 5)
            with pytest.raises(Forbidden, match="reader"):
                await hers.send("still?")
            await room.send("two")
            assert await at_bob.until(3) == ["one", "now i may", "two"]


async def test_who_leaves_is_out_and_the_key_changes_before_the_next_message(place: Place) -> None:
    await place.found("bob", "cyd")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob, place.enter("cyd") as cyd:
        room = await ada.create_room("ops")
        await room.add("bob")
        await room.add("cyd")
        bobs, cyds = await bob.room("ops"), await cyd.room("ops")
        await cyds.leave()
        with pytest.raises(NotFound):
            await cyds.send("goodbye")
        await bobs.send("cyd has left")
        assert bobs.state.epoch.number == 2
        assert bobs.state.holders() == {user("ada"), user("bob")}
        async with tail(room) as at_ada:
            assert await at_ada.until(1) == ["cyd has left"]
            assert at_ada.refused == []
        for going in (room.leave(), room.remove("ada")):
            with pytest.raises(RuleBroken, match="successor"):
                await going
        await room.leave("bob")
        await bob.replica.sync_room(room.id)
        assert bobs.members == {"bob": "owner"}


async def test_a_room_that_lost_its_owner_with_the_bus_can_be_taken_over_by_a_member(place: Place) -> None:
    await place.found("bob", "cyd", "dan")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob, place.enter("cyd") as cyd:
        room = await bob.create_room("ops")
        await room.add("cyd")
        await room.add("dan", "reader")
        cyds = await cyd.room("ops")
        with pytest.raises(Forbidden):
            await cyds.set_role("cyd", "owner")
        await ada.revoke("bob")
        await cyd.replica.sync_directory()
        with pytest.raises(Forbidden):
            await cyds.set_role("dan", "member")
        await cyds.set_role("cyd", "owner")
        await cyds.remove("dan")
        assert cyds.members == {"cyd": "owner"}


async def test_an_archived_room_is_read_and_not_written(place: Place) -> None:
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        bobs = await bob.room("ops")
        await bobs.send("before")
        live = await bob.link.connection(room.id)
        await room.archive()
        await asyncio.wait_for(live.gone.wait(), 5)
        for closed in (room, bobs):
            with pytest.raises(Forbidden, match="archived"):
                await closed.send("after")
            with pytest.raises(RuleBroken, match="archived"):
                await closed.rotate()
        async with tail(bobs) as at_bob:
            assert await at_bob.until(1) == ["before"]


async def test_what_a_room_keeps_is_enforced_on_the_bus(place: Place) -> None:
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        for number in range(4):
            await room.send(f"{number}" * 30_000)
        with pytest.raises(Forbidden):
            await (await bob.room("ops")).retain(seconds=None, size=70_000)
        await room.retain(seconds=None, size=70_000)
        async with tail(await bob.room("ops")) as at_bob:
            assert [text[0] for text in await at_bob.until(2)] == ["2", "3"]


async def test_the_trail_says_who_did_what_from_where_and_what_was_refused(node: tuple[Node, Place]) -> None:
    running, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        with pytest.raises(Forbidden):
            await bob.rename("ada", "eve")
        with pytest.raises(NotFound):
            await bob.replica.sync_room(room.id)
        with pytest.raises(Forbidden):
            await bob.api.audit(0, 0)
        waiting = asyncio.create_task(ada.api.audit((await _settled(running)), 20))
        await room.rename("operations")
        assert [entry.action for entry in (await waiting).entries] == ["room.rename"]
        trail = (await ada.api.audit(0, 0)).entries
    seen = [(entry.actor, entry.action, entry.outcome, entry.facts.get("code")) for entry in trail]
    assert seen == [
        (user("ada"), "bus.create", "ok", None),
        (user("ada"), "user.admit", "ok", None),
        (user("ada"), "room.create", "ok", None),
        (user("bob"), "user.rename", "refused", "forbidden"),
        (user("bob"), "GET /v1/rooms/{room}/records", "refused", "not-found"),
        (user("bob"), "GET /v1/audit", "refused", "forbidden"),
        (user("ada"), "room.rename", "ok", None),
    ]
    assert [entry.number for entry in trail] == list(range(1, 8))
    assert {entry.origin for entry in trail} == {"127.0.0.1"}


async def _settled(node: Node) -> int:
    """The number of the last entry once all refusals are written."""
    await node.audit.close()
    return len(await node.audit.read(0, 1000))


async def test_no_secret_and_no_message_is_in_any_log(start_daemon: StartDaemon, data_dir: Path) -> None:
    daemon = await start_daemon()
    place = Place(daemon.url, data_dir)
    bootstrap = place.token
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        invite = await ada.invite()
        await join_bus(invite, identity("zoe"), "zoe")
        await room.send("the quick brown fox")
        keys = [await ada.keyring.key(room.state, number) for number in room.state.epochs]
        async with tail(await bob.room("ops")) as at_bob:
            await at_bob.until(1)
        trail = "\n".join(entry.model_dump_json() for entry in (await ada.api.audit(0, 0)).entries)
    await daemon.stop()
    logged = trail + "\n".join(map(str, daemon.log))
    assert room.id in logged  # what is not secret is found, so the search does search
    secrets = [bootstrap, invite.text, b64u(invite.key.seed), "quick brown", *(b64u(key) for key in keys)]
    secrets += [identity(name).seed for name in ("ada", "bob", "zoe")]
    assert [secret for secret in secrets if secret in logged] == []


async def test_a_refused_connection_to_the_bus_is_noted_and_counted(node: tuple[Node, Place]) -> None:
    running, place = node
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.send("counted")
        stranger = nats.aio.client.Client()
        with pytest.raises(nats.errors.Error):
            await stranger.connect(
                f"nats://127.0.0.1:{running.bus.client_port}",
                nkeys_seed_str=identity("eve").seed,
                allow_reconnect=False,
                max_reconnect_attempts=1,
            )
        await asyncio.wait_for(stranger.close(), 5)  # a failed connect leaves its socket open
        await _settled(running)
        last = (await ada.api.audit(0, 0)).entries[-1]
        assert (last.action, last.outcome, last.actor) == ("bus.connect", "refused", user("eve"))
        assert last.facts["code"] == "not-a-user"
        with pytest.raises(Forbidden):
            await bob.api.audit(0, 0)
        async with aiohttp.ClientSession() as session, session.get(f"{place.url}/metrics") as answer:
            shown = await answer.text()
    for line in (
        'unibus_bus_auth_total{outcome="not-a-user"} 1.0',
        'unibus_bus_auth_total{outcome="ok"} 1.0',
        'unibus_http_auth_total{outcome="forbidden"} 1.0',
        'unibus_http_requests_total{route="/v1/audit",status="403"} 1.0',
        "unibus_users 2.0",
        "unibus_bus_up 1.0",
        "unibus_bus_restarts 0.0",
    ):
        assert line in shown.splitlines()
    assert user("ada") not in shown
    assert room.id not in shown
    assert {"unibus_rooms", "unibus_records", "unibus_blob_bytes", "unibus_loop_lag_seconds"} <= {
        line.split()[0] for line in shown.splitlines()
    }
