"""Too many logins from one address are refused before a signature is looked at, and nobody else's are."""

import asyncio
from pathlib import Path

import nats.errors
import pytest
from nacl.public import Box, PrivateKey, PublicKey

from tests.bus.stage import ROOM, Logbook, Member, TablePolicy, signed
from tests.bus.watched import watched
from unibus.bus import callout_core as core
from unibus.bus import natsjwt
from unibus.bus.callout import LOGINS, LOGINS_AT_ONCE, Callout
from unibus.bus.keys import BusKeys
from unibus.bus.links import Links
from unibus.bus.options import BusAuth
from unibus.bus.registry import Registry
from unibus.crypto.nkeys import SigningKey, decode_public, encode_public
from unibus.errors import UnibusError

NOW, NONCE = 1_800_000_000, "the server's nonce"
SERVER, CURVE = SigningKey.from_seed(b"n" * 32, "N"), PrivateKey(b"x" * 32)
XKEY = {core.XKEY_HEADER: encode_public("X", bytes(CURVE.public_key))}
STRANGER, OTHER, LOOPBACK = "203.0.113.7", "203.0.113.8", "127.0.0.1"


def question(keys: BusKeys, member: Member, cid: int, host: str) -> bytes:
    """What a server asks for a client at `host`."""
    claims = {
        "aud": "nats-authorization-request",
        "sub": keys.issuer.public,
        "exp": NOW + 2,
        "nats": {
            "server_id": {"id": SERVER.public},
            "user_nkey": member.user,
            "client_info": {"id": cid, "host": host, "kind": "Client", "type": "nats", "nonce": NONCE},
            "connect_opts": dict(signed(member, NONCE)),
        },
    }
    box = Box(CURVE, PublicKey(decode_public(keys.curve_public, "X")))
    return b"xkv1" + box.encrypt(natsjwt.sign(claims, SERVER).encode())


async def test_logins_from_one_address_have_a_rate(tmp_path: Path) -> None:
    log, policy, alice = Logbook(), TablePolicy(), Member()
    policy.rooms[alice.user] = {ROOM}
    outcomes: list[str] = []
    now = 100.0

    def decided(_user: str, _host: str, error: UnibusError | None) -> None:
        outcomes.append(error.code if error else "ok")

    async with watched(tmp_path) as bus, bus.inside(bus.keys.system) as client:
        # In the account where callouts are asked only the server may ask; the test, in its place, asks in another.
        links = Links(client, client, client, asyncio.get_running_loop().create_future(), ())
        callout = Callout(
            links,
            bus.keys,
            SERVER.public,
            policy,
            Registry(),
            BusAuth.ENFORCE,
            clock=lambda: NOW,
            random=lambda count: b"r" * count,
            log=log.logger,
            decided=decided,
            monotonic=lambda: now,
        )
        await callout.start()

        async def ask(member: Member, cid: int, host: str = STRANGER) -> str:
            await client.request(core.SUBJECT, question(bus.keys, member, cid, host), headers=XKEY, timeout=5)
            return outcomes[-1]

        try:
            assert await ask(alice, 1) == "ok"
            assert {await ask(Member(), 10 + cid) for cid in range(LOGINS_AT_ONCE - 1)} == {"not-a-user"}
            policy.asked = asyncio.Queue()
            assert await ask(alice, 5001) == "rate-limited"
            assert policy.asked.empty()
            assert await ask(alice, 1) == "ok"  # the server asks again about one that is in
            assert await ask(alice, 5002, OTHER) == "ok"
            assert {await ask(alice, 6000 + cid, LOOPBACK) for cid in range(20)} == {"ok"}
            now += 1.0
            assert [await ask(alice, 7000 + cid) for cid in range(LOGINS + 1)] == ["ok"] * LOGINS + ["rate-limited"]
        finally:
            await callout.close()


async def test_who_has_waited_too_long_is_passed_over_and_nobody_else_is(tmp_path: Path) -> None:
    policy, alice, now = TablePolicy(), Member(), 100.0
    policy.rooms[alice.user] = {ROOM}
    outcomes: list[str] = []

    async with watched(tmp_path) as bus, bus.inside(bus.keys.system) as client:
        links = Links(client, client, client, asyncio.get_running_loop().create_future(), ())

        def later() -> float:
            # Whoever joins the line is looked at two seconds after that.
            nonlocal now
            seen, now = now, max(now, 102.0)
            return seen

        callout = Callout(
            links,
            bus.keys,
            SERVER.public,
            policy,
            Registry(),
            BusAuth.ENFORCE,
            clock=lambda: NOW,
            random=lambda count: b"r" * count,
            log=Logbook().logger,
            decided=lambda user, _host, _error: outcomes.append(user),
            monotonic=later,
        )
        await callout.start()
        try:
            with pytest.raises(nats.errors.TimeoutError):
                await client.request(core.SUBJECT, question(bus.keys, Member(), 1, LOOPBACK), headers=XKEY, timeout=0.3)
            assert outcomes == []
            await client.request(core.SUBJECT, question(bus.keys, alice, 2, LOOPBACK), headers=XKEY, timeout=5)
            assert outcomes == [alice.user]
        finally:
            await callout.close()
