"""A nats-server that somebody else runs: what is refused, what is shown, and what a loss or a restart means."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bus.external_stage import Block, external_stage, jetstream, make_plane, printed, spoilt
from tests.bus.stage import (
    ROOM,
    Connection,
    Logbook,
    Member,
    Stage,
    TablePolicy,
    can_connect,
    eventually,
    login_of,
    shake_hands,
)
from tests.support.nats_server import nats_server
from unibus.bus.external_config import render
from unibus.bus.keys import BusKeys
from unibus.bus.options import BusAuth, BusOptions, External
from unibus.bus.plane import BusPlane
from unibus.crypto.nkeys import SigningKey, encode_seed
from unibus.errors import StartRefused
from unibus.model.subjects import STREAM

pytestmark = pytest.mark.slow

LOST = "nats-server is down"
BACK = "nats-server is back"


async def refusal(tmp_path: Path, port: int, keys: BusKeys, mode: BusAuth = BusAuth.ENFORCE, **more: object) -> str:
    """Why a daemon does not start on the server there."""
    external = External("127.0.0.1", port, keys, **more)  # type: ignore[arg-type]  # a test's own words
    plane = BusPlane(BusOptions(tmp_path, mode=mode, external=external), TablePolicy(), Logbook().logger)
    with pytest.raises(StartRefused) as told:
        await plane.start()
    await plane.stop()
    return told.value.message


async def test_members_come_in_and_nobody_else(tmp_path: Path) -> None:
    async with external_stage(tmp_path) as (stage, server):
        alice, bob = stage.member(ROOM), stage.member(ROOM)
        async with stage.connect(alice) as a, stage.connect(bob) as b:
            reading = await b.read()
            assert (await a.publish(data=b"hello"))["seq"] == 1
            assert await reading.bodies(1) == [b"hello"]
            await a.client.publish(bob.sender(), b"forged")
            assert "permissions violation" in await a.refused()
        assert not await can_connect(stage, Member())
        status = stage.plane.status()
        assert stage.plane.client_port == server.port
    told = ("kind", "ready", "auth", "jetstream", "durable", "sync_interval", "reason")
    assert {name: status[name] for name in told} == {
        "kind": "external",
        "ready": True,
        "auth": "enforce",
        "jetstream": True,
        "durable": True,
        "sync_interval": "always",
        "reason": None,
    }
    assert not (tmp_path / "run").exists()


async def test_one_that_does_not_write_at_once_is_not_durable(tmp_path: Path) -> None:
    async with external_stage(tmp_path, sync='"2m"') as (stage, _):
        status = stage.plane.status()
    assert (status["ready"], status["durable"], status["sync_interval"]) == (True, False, "120s")


async def test_nobody_keeps_room_for_records_but_its_operator(tmp_path: Path) -> None:
    keys = BusKeys.generate(os.urandom)
    async with external_stage(tmp_path, keys) as (stage, server):
        assert stage.plane.status()["reserve"] is False
        core = await stage.plane.core_dial()
        try:
            found = (await core.jetstream().stream_info(STREAM)).config
            await core.jetstream().update_stream(found.evolve(max_bytes=1 << 30))
        finally:
            await core.close()
        policy, log = TablePolicy(), Logbook()
        await stage.plane.stop()
        again = make_plane(tmp_path, server, keys, policy, log)
        await again.start()
        try:
            core = await again.core_dial()
            try:
                assert (await core.jetstream().stream_info(STREAM)).config.max_bytes == 1 << 30
            finally:
                await core.close()
        finally:
            await again.stop()


def _no_callout(block: Block) -> None:
    del block["authorization"]["auth_callout"]


def _share_the_api(block: Block) -> None:
    block["accounts"]["CORE"]["exports"].append({"service": "$JS.API.>", "accounts": ["BUS"]})
    block["accounts"]["BUS"]["imports"].append({"service": {"account": "CORE", "subject": "$JS.API.>"}})


def _share_with_all(block: Block) -> None:
    del block["accounts"]["CORE"]["exports"][0]["accounts"]


def _cross_imports(block: Block) -> None:
    block["accounts"]["BUS"]["imports"][0]["to"] = "elsewhere.*.msg.*"


def _let_nobody_in_as_somebody(block: Block) -> None:
    block["accounts"]["OTHER"] = {"users": [{"user": "x", "password": "x"}]}
    block["authorization"]["auth_callout"]["auth_users"].append("x")
    block["no_auth_user"] = "x"


def _swap_logins(block: Block) -> None:
    accounts = block["accounts"]
    accounts["AUTH"]["users"], accounts["CORE"]["users"] = accounts["CORE"]["users"], accounts["AUTH"]["users"]


def _let_members_kick(block: Block) -> None:
    block["accounts"]["SYS"]["exports"] = [{"service": "$SYS.REQ.SERVER.*.KICK", "accounts": ["BUS"]}]
    block["accounts"]["BUS"]["imports"].append({"service": {"account": "SYS", "subject": "$SYS.REQ.SERVER.*.KICK"}})


def _share_the_callout(block: Block) -> None:
    block["accounts"]["AUTH"]["exports"] = [{"service": "$SYS.REQ.USER.AUTH"}]


def _bring_into_core(block: Block) -> None:
    block["accounts"]["OTHER"] = {"exports": [{"service": "other"}]}
    block["accounts"]["CORE"]["imports"] = [{"service": {"account": "OTHER", "subject": "other"}}]


def _map_in_members(block: Block) -> None:
    block["accounts"]["BUS"]["mappings"] = {"room.*.sig.*.*": "room.$1.msg.$2"}


def _map_in_core(block: Block) -> None:
    block["accounts"]["CORE"]["mappings"] = {"room.*.msg.*": "$JS.API.STREAM.PURGE.ROOMS"}


OTHER = BusKeys.generate(os.urandom)
SPOILT: list[tuple[Callable[[Block], object], str]] = [
    (lambda block: block["accounts"]["CORE"].pop("jetstream"), "has no jetstream in its account CORE"),
    (lambda block: block["accounts"]["BUS"].update(jetstream="enabled"), "has its members beside jetstream"),
    (_share_the_api, "shares other subjects of CORE"),
    (_share_with_all, "shares other subjects of CORE"),
    (_let_members_kick, "brings other subjects into BUS"),
    (_bring_into_core, "brings other subjects into CORE"),
    (_share_the_callout, "shares subjects of AUTH"),
    (_map_in_members, "maps subjects of its account BUS to others"),
    (_map_in_core, "maps subjects of its account CORE to others"),
    (lambda block: block.update(leafnodes={"listen": "127.0.0.1:-1"}), "listens for leafnodes"),
    (lambda block: block.update(mqtt={"listen": "127.0.0.1:-1"}, server_name="here"), "listens for mqtt"),
    (lambda block: block["accounts"]["BUS"]["imports"].pop(), "brings other subjects into BUS"),
    (_cross_imports, "brings other subjects into BUS"),
    (_no_callout, "does not ask this daemon who may connect"),
    (_let_nobody_in_as_somebody, "lets everybody in"),
    (_swap_logins, "has the daemon's login for CORE in the account AUTH"),
    (lambda block: block["authorization"]["auth_callout"].update(issuer=OTHER.issuer.public), "meant for another"),
    (
        lambda block: block["authorization"]["auth_callout"].update(xkey=OTHER.curve_public),
        "was not encrypted for this",
    ),
    (lambda block: block["authorization"]["auth_callout"].pop("xkey"), "the request is not encrypted"),
    (lambda block: block["authorization"]["auth_callout"].update(account="CORE"), "does not ask this daemon"),
    (lambda block: block["authorization"].update(timeout=5), "gives 5 seconds to be let in, and not 2"),
    (lambda block: block.update(max_payload=65536), "takes messages of 65536 bytes, and not of 1048576"),
    (lambda block: block.update(max_control_line=4096), "takes lines of 4096 bytes, and not of 65536"),
]


@pytest.mark.parametrize(("spoil", "told"), SPOILT, ids=[told for _, told in SPOILT])
async def test_one_that_is_set_up_otherwise_is_refused(
    tmp_path: Path, spoil: Callable[[Block], object], told: str
) -> None:
    keys, home = BusKeys.generate(os.urandom), tmp_path / "operator"
    async with nats_server(home, spoilt(home, keys, spoil)) as server:
        assert told in await refusal(tmp_path, server.port, keys)


@pytest.mark.parametrize("mode", list(BusAuth))
@pytest.mark.parametrize(
    ("configuration", "told"),
    [
        (jetstream, "lets everybody in: put what unibus nats-config prints"),
        (lambda home: printed(home, OTHER), r"does not let its daemon in"),
    ],
)
async def test_one_without_the_block_is_refused_in_every_mode(
    tmp_path: Path, mode: BusAuth, configuration: Callable[[Path], str], told: str
) -> None:
    home = tmp_path / "operator"
    async with nats_server(home, configuration(home)) as server:
        reason = await refusal(tmp_path, server.port, BusKeys.generate(os.urandom), mode)
    assert told in reason
    assert "unibus nats-config" in reason


async def test_one_without_jetstream_is_refused(tmp_path: Path) -> None:
    keys, home = BusKeys.generate(os.urandom), tmp_path / "operator"
    block = spoilt(home, keys, lambda block: block["accounts"]["CORE"].pop("jetstream"))
    async with nats_server(home, block.partition("\n")[2]) as server:
        assert "has no jetstream: put jetstream" in await refusal(tmp_path, server.port, keys)


async def test_where_nobody_listens_is_told(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        reason = await refusal(tmp_path, port, OTHER)
    assert f"the nats-server at nats://127.0.0.1:{port} cannot be reached" in reason


@pytest.mark.parametrize(
    ("greeting", "told"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "there is no nats-server at"),
        (b"", "there is no nats-server at"),
        (b"INFO []\r\n", "there is no nats-server at"),
        (b"x" * 100_000, "cannot be reached"),
        (b'INFO {"server_id":"N","server_name":"n","version":"2.11.9"}\r\n', "is version 2.11.9, but 2.12.0 or newer"),
        (b'INFO {"server_id":"N","server_name":"n","version":"odd"}\r\n', "is version odd, but"),
        (
            b'INFO {"server_id":"N","server_name":"n","version":"2.15.1","tls_required":true}\r\n',
            "wants tls: write tls://",
        ),
        (b'INFO {"server_id":"N","server_name":"n","version":"2.15.1"}\r\n', "lets everybody in"),
    ],
)
async def test_what_greets_otherwise_is_refused(tmp_path: Path, greeting: bytes, told: str) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with listener:
        assert told in await refusal(tmp_path, listener.sockets[0].getsockname()[1], OTHER)


async def test_its_loss_shows_nobody_gets_in_and_its_return_goes_on(tmp_path: Path) -> None:
    async with external_stage(tmp_path) as (stage, server):
        alice = stage.member(ROOM)
        async with stage.connect(alice) as a:
            await a.publish(data=b"acknowledged")
            await server.kill()
            await a.closed.wait()
        await stage.log.heard(LOST)
        await stage.log.heard("nats-server does not come back")
        status = stage.plane.status()
        assert (status["ready"], status["jetstream"]) == (False, False)
        assert "cannot be reached" in str(status["reason"])
        await stage.plane.cut(Member().user)
        await server.start()
        await stage.log.heard(BACK, within=30)
        assert stage.plane.status()["ready"] is True
        async with stage.connect(alice) as again:
            assert await (await again.read()).bodies(1) == [b"acknowledged"]
        assert not await can_connect(stage, Member())


async def test_a_revocation_that_does_not_get_through_comes_first_when_it_obeys_again(tmp_path: Path) -> None:
    async with external_stage(tmp_path) as (stage, server):
        alice, bob = stage.member(ROOM), stage.member(ROOM)
        async with stage.connect(alice) as a, stage.connect(bob) as b:
            reading = await a.read()
            await server.freeze()
            del stage.policy.rooms[alice.user]
            await stage.plane.cut(alice.user)
            await stage.log.heard("a revocation waits until the nats-server obeys again")
            await stage.log.heard(LOST)
            assert stage.plane.status()["ready"] is False
            server.send(signal.SIGCONT)
            await stage.log.heard(BACK, within=30)
            assert a.closed.is_set() or await asyncio.wait_for(a.closed.wait(), 1)
            assert b.closed.is_set() or await asyncio.wait_for(b.closed.wait(), 1)
            assert reading.waiting == 0
        assert not await can_connect(stage, alice)
        assert await can_connect(stage, bob)


async def test_who_was_connected_before_the_daemon_is_decided_on_anew(tmp_path: Path) -> None:
    keys, policy, home = BusKeys.generate(os.urandom), TablePolicy(), tmp_path / "operator"
    alice, bob = Member(), Member()
    policy.rooms |= {alice.user: {ROOM}, bob.user: {ROOM}}
    async with nats_server(home, printed(home, keys)) as server:
        first = make_plane(tmp_path, server, keys, policy, Logbook())
        await first.start()
        stage = Stage(first, policy, Logbook())
        async with stage.connect(alice) as a:
            reading = await a.read()
            await first.stop()
            assert not a.closed.is_set()
            policy.rooms[alice.user] = set()  # on the bus still, and out of the room
            second = make_plane(tmp_path, server, keys, policy, Logbook())
            await second.start()
            try:
                await asyncio.wait_for(a.closed.wait(), 1)
                stage = Stage(second, policy, Logbook())
                async with stage.connect(alice) as again, stage.connect(bob) as b:
                    # The delivery that is remembered would have gone on for a minute without its reader.
                    leaked = await again.client.subscribe(f"dlv.{alice.user}.{reading.token}")
                    await again.client.flush()
                    await b.publish(data=b"secret")
                    await again.client.flush()
                    assert leaked.pending_msgs == 0
            finally:
                await second.stop()


async def test_a_connection_lasts_no_longer_than_its_lease(tmp_path: Path) -> None:
    async with external_stage(tmp_path, lease=1) as (stage, _):
        async with stage.connect(stage.member(ROOM)) as a:
            await asyncio.wait_for(a.closed.wait(), 4)
        await eventually(lambda: stage.plane.status()["connections"] == 0)


async def test_a_configuration_that_changes_is_looked_at_anew(tmp_path: Path) -> None:
    keys = BusKeys.generate(os.urandom)
    async with external_stage(tmp_path, keys) as (stage, server):
        server.configure(spoilt(server.home, keys, lambda block: block["accounts"]["BUS"].update(jetstream="enabled")))
        server.send(signal.SIGHUP)
        await stage.log.heard("nats-server does not come back", within=20)
        assert "beside jetstream" in str(stage.plane.status()["reason"])
        assert await shake_hands(server.port, login_of(stage.member(ROOM))) != "PONG"


async def test_a_user_whom_the_operator_put_among_the_members_is_sent_away(tmp_path: Path) -> None:
    keys, policy, log, home = BusKeys.generate(os.urandom), TablePolicy(), Logbook(), tmp_path / "operator"
    intruder = Member()

    def add(block: Block) -> None:
        block["accounts"]["BUS"]["users"].append({"nkey": intruder.user})
        block["authorization"]["auth_callout"]["auth_users"].append(intruder.user)

    async with nats_server(home, spoilt(home, keys, add)) as server:
        plane = make_plane(tmp_path, server, keys, policy, log)
        await plane.start()
        connection = Connection(intruder)
        try:
            await connection.open(server.port, None)
            await asyncio.wait_for(connection.closed.wait(), 2)
        finally:
            await connection.client.close()
            await plane.stop()


def test_nothing_secret_is_printed() -> None:
    keys = BusKeys.generate(os.urandom)
    text = render(keys, 1 << 20)
    held: list[SigningKey] = [keys.issuer, keys.auth, keys.core, keys.system]
    for secret in (*(encode_seed(key.kind, key.seed) for key in held), encode_seed("X", bytes(keys.curve))):
        assert secret not in text
        assert secret not in json.dumps(repr(keys))
    for public in (*(key.public for key in held), keys.curve_public):
        assert public in text
