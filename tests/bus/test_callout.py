"""Who is let in: only an identity in the policy that signs the server's nonce, and only as itself."""

import asyncio
import base64
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.bus.stage import OTHER_ROOM, ROOM, Member, Stage, can_connect, login_of, shake_hands, signed
from unibus.errors import UnibusError

PONG, REFUSED = "PONG", "-ERR 'Authorization Violation'"


def _standard(member: Member, nonce: str) -> dict[str, str]:
    return {"nkey": member.user, "sig": base64.b64encode(member.key.sign(nonce.encode())).decode()}


@pytest.mark.parametrize("login", [signed, _standard], ids=["url-safe without padding", "standard with padding"])
async def test_both_ways_to_write_a_signature_are_taken(
    stage: Stage, login: Callable[[Member, str], Mapping[str, str]]
) -> None:
    alice = stage.member(ROOM)
    assert await shake_hands(stage.plane.client_port, lambda nonce: login(alice, nonce)) == PONG


async def test_a_stranger_with_a_good_signature_is_refused(stage: Stage) -> None:
    stranger = Member()
    assert await shake_hands(stage.plane.client_port, login_of(stranger)) == REFUSED
    await stage.log.heard("a connection was refused", code="not-a-user", user=stranger.user)


def _attempts(alice: Member, mallory: Member) -> Mapping[str, Callable[[str], Mapping[str, object]]]:
    return {
        "nothing": lambda _: {},
        "no signature": lambda _: {"nkey": alice.user},
        "another's signature": lambda nonce: {**signed(mallory, nonce), "nkey": alice.user},
        "old nonce": lambda _: signed(alice, "an older nonce"),
        "empty signature": lambda _: {"nkey": alice.user, "sig": ""},
        "not base64": lambda _: {"nkey": alice.user, "sig": "!!!!"},
        "short signature": lambda _: {"nkey": alice.user, "sig": "AAAA"},
        "not an nkey": lambda nonce: {**signed(alice, nonce), "nkey": "U" * 56},
        "an account's nkey": lambda nonce: {**signed(alice, nonce), "nkey": "A" + alice.user[1:]},
        "user and password": lambda _: {"user": alice.user, "pass": "x"},
        "a bare token": lambda _: {"auth_token": alice.user},
        "a foreign JWT": lambda nonce: {"jwt": "e30.e30.e30", "sig": signed(alice, nonce)["sig"]},
        "rooms that are none": lambda nonce: {**signed(alice, nonce), "auth_token": "rooms=*"},
        "a token of no known form": lambda nonce: {**signed(alice, nonce), "auth_token": "x"},
    }


@pytest.mark.parametrize("attempt", _attempts(Member(), Member()))
async def test_nobody_else_is_let_in(stage: Stage, attempt: str) -> None:
    alice, mallory = stage.member(ROOM), stage.member(OTHER_ROOM)
    assert await shake_hands(stage.plane.client_port, _attempts(alice, mallory)[attempt]) == REFUSED


async def test_the_daemons_own_logins_need_their_signature(stage: Stage, tmp_path: Path) -> None:
    """The configuration shows the public halves; whoever reads them has gained nothing."""
    config = (tmp_path / "run" / "nats-server.conf").read_text()
    logins = [word for word in config.replace('"', " ").split() if word.startswith("U") and len(word) == 56]
    assert len(set(logins)) == 3
    mallory = stage.member(ROOM)
    for login in set(logins):
        told = await shake_hands(stage.plane.client_port, login_of(mallory, nkey=login))
        assert told == REFUSED


async def test_a_policy_that_fails_lets_nobody_in_and_others_later(stage: Stage) -> None:
    alice = stage.member(ROOM)
    stage.policy.failure = RuntimeError("the store is on fire")
    assert not await can_connect(stage, alice)
    stage.policy.failure = UnibusError()
    assert not await can_connect(stage, alice)
    stage.policy.failure = None
    assert await can_connect(stage, alice)
    await stage.log.heard("a connection could not be decided")


async def test_a_policy_that_hangs_lets_nobody_in(stage: Stage) -> None:
    alice = stage.member(ROOM)
    stage.policy.gate.clear()
    assert await shake_hands(stage.plane.client_port, login_of(alice)) == REFUSED
    stage.policy.gate.set()
    assert await can_connect(stage, alice)


async def test_many_at_once_are_all_answered(stage: Stage) -> None:
    members = [stage.member(ROOM) for _ in range(100)]
    strangers = [Member() for _ in range(100)]
    told = await asyncio.gather(
        *(shake_hands(stage.plane.client_port, login_of(who)) for who in [*members, *strangers])
    )
    assert told == [PONG] * 100 + [REFUSED] * 100
