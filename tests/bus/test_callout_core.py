"""Callout requests that are forged, replayed, foreign or broken; each stands for one attack."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from nacl.public import Box, PrivateKey, PublicKey

from tests.bus.stage import Member, signed
from unibus.bus import callout_core, natsjwt
from unibus.bus.config import LOGIN
from unibus.bus.keys import BusKeys
from unibus.bus.permissions import EVERYTHING
from unibus.crypto.encoding import b64u
from unibus.crypto.nkeys import SigningKey, decode_public, encode_public
from unibus.errors import InvalidInput, SignatureInvalid, SignatureMissing, UnibusError

NOW = 1_800_000_000
NONCE = "the server's nonce"
Claims = dict[str, Any]


def _keys(first: int) -> BusKeys:
    numbers = iter(range(first, 256))
    return BusKeys.generate(lambda count: bytes([next(numbers)]) * count)


KEYS = _keys(1)
SERVER = SigningKey.from_seed(b"n" * 32, "N")
SERVER_CURVE = PrivateKey(b"x" * 32)
SERVER_X = encode_public("X", bytes(SERVER_CURVE.public_key))
ALICE, MALLORY = Member(SigningKey.from_seed(b"a" * 32)), Member(SigningKey.from_seed(b"m" * 32))


def _claims() -> Claims:
    return {
        "aud": "nats-authorization-request",
        "sub": KEYS.issuer.public,
        "exp": NOW + 2,
        "nats": {
            "server_id": {"id": SERVER.public, "name": "node"},
            "user_nkey": Member(SigningKey.from_seed(b"o" * 32)).user,
            "client_info": {"id": 7, "host": "127.0.0.1", "kind": "Client", "type": "nats", "nonce": NONCE},
            "connect_opts": {**signed(ALICE, NONCE), "protocol": 1},
        },
    }


def _sealed(token: str, to: BusKeys = KEYS, by: PrivateKey = SERVER_CURVE) -> bytes:
    box = Box(by, PublicKey(decode_public(to.curve_public, "X")))
    return b"xkv1" + box.encrypt(token.encode(), b"n" * 24)


def _read(claims: Claims, now: int = NOW) -> callout_core.Attempt:
    return callout_core.read_request(_sealed(natsjwt.sign(claims, SERVER)), SERVER_X, KEYS, SERVER.public, now)


def test_a_good_request_names_the_user_that_signed() -> None:
    attempt = _read(_claims())
    assert (callout_core.prove(attempt), attempt.cid, attempt.host) == (ALICE.user, 7, "127.0.0.1")
    assert callout_core.wished_rooms(attempt) is None


def _without(*path: str) -> Callable[[Claims], object]:
    def change(claims: Claims) -> object:
        for name in path[:-1]:
            claims = claims[name]
        return claims.pop(path[-1])

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda claims: claims.update(aud="another"),
        lambda claims: claims.update(sub=_keys(9).issuer.public),
        lambda claims: claims.update(exp=NOW - 1),
        lambda claims: claims.update(exp="never"),
        lambda claims: claims["nats"]["server_id"].update(id=SigningKey.from_seed(b"z" * 32, "N").public),
        lambda claims: claims["nats"].update(user_nkey="U"),
        lambda claims: claims["nats"]["client_info"].update(id="seven"),
        lambda claims: claims.update(nats=[]),
        *[_without(*p) for p in (("exp",), ("aud",), ("nats",), ("nats", "client_info"), ("nats", "connect_opts"))],
    ],
)
def test_a_request_that_is_not_for_us_is_refused(change: Callable[[Claims], object]) -> None:
    claims = _claims()
    change(claims)
    with pytest.raises(InvalidInput):
        _read(claims)


@pytest.mark.parametrize(
    ("body", "reply_to"),
    [
        (natsjwt.sign(_claims(), SERVER).encode(), ""),
        (natsjwt.sign(_claims(), SERVER).encode(), SERVER_X),
        (_sealed(natsjwt.sign(_claims(), SERVER)), ""),
        (_sealed(natsjwt.sign(_claims(), SERVER)), "X"),
        (_sealed(natsjwt.sign(_claims(), SERVER)), SERVER.public),
        (_sealed(natsjwt.sign(_claims(), SERVER), by=PrivateKey(b"y" * 32)), SERVER_X),
        (_sealed(natsjwt.sign(_claims(), SERVER), to=_keys(9)), SERVER_X),
        (_sealed(natsjwt.sign(_claims(), SERVER))[:-1], SERVER_X),
        (b"xkv1", SERVER_X),
        (b"", SERVER_X),
        (_sealed(natsjwt.sign(_claims(), SigningKey.from_seed(b"z" * 32, "N"))), SERVER_X),
        (_sealed(natsjwt.sign(_claims(), ALICE.key)), SERVER_X),
        (_sealed("a.b"), SERVER_X),
        (_sealed("..."), SERVER_X),
    ],
)
def test_a_request_not_sealed_and_signed_by_our_server_is_refused(body: bytes, reply_to: str) -> None:
    with pytest.raises(InvalidInput):
        callout_core.read_request(body, reply_to, KEYS, SERVER.public, NOW)


def test_a_token_of_another_algorithm_is_refused() -> None:
    _, body, signature = natsjwt.sign(_claims(), SERVER).split(".")
    head = b64u(b'{"alg":"none","typ":"JWT"}')
    with pytest.raises(InvalidInput):
        natsjwt.read(f"{head}.{body}.{signature}".encode(), SERVER.public, kind="N")


@pytest.mark.parametrize(
    ("client", "connect", "refusal"),
    [
        ({}, {"nkey": ""}, SignatureMissing),
        ({}, {"sig": ""}, SignatureMissing),
        ({"nonce": ""}, {}, SignatureMissing),
        ({"nonce": "another"}, {}, SignatureInvalid),
        ({}, signed(MALLORY, NONCE) | {"nkey": ALICE.user}, SignatureInvalid),
        ({}, {"sig": "é"}, SignatureInvalid),
        ({}, {"sig": "A"}, SignatureInvalid),
        ({}, {"nkey": KEYS.issuer.public}, SignatureInvalid),
        ({"type": "mqtt"}, {}, SignatureInvalid),
        ({"kind": "Leafnode"}, {}, SignatureInvalid),
    ],
)
def test_an_identity_that_is_not_proven_is_refused(
    client: dict[str, str], connect: dict[str, str], refusal: type[UnibusError]
) -> None:
    claims = _claims()
    claims["nats"]["client_info"].update(client)
    claims["nats"]["connect_opts"].update(connect)
    with pytest.raises(refusal):
        callout_core.prove(_read(claims))


@pytest.mark.parametrize(
    ("token", "rooms"),
    [
        ("rooms=", ()),
        ("rooms=" + "a" * 26, ("a" * 26,)),
        (",".join(["rooms=" + "a" * 26, "b" * 26, "a" * 26]), ("a" * 26, "b" * 26)),
    ],
)
def test_a_connection_says_which_rooms_it_opens(token: str, rooms: tuple[str, ...]) -> None:
    claims = _claims()
    claims["nats"]["connect_opts"]["auth_token"] = token
    assert callout_core.wished_rooms(_read(claims)) == rooms


@pytest.mark.parametrize("token", ["x", "rooms=*", "rooms=,", "rooms=" + "A" * 26, "rooms=" + "a" * 26 + ","])
def test_rooms_that_are_none_are_refused(token: str) -> None:
    claims = _claims()
    claims["nats"]["connect_opts"]["auth_token"] = token
    with pytest.raises(InvalidInput):
        callout_core.wished_rooms(_read(claims))


def test_an_approval_is_bound_to_its_request_and_signed_twice() -> None:
    attempt = _read(_claims())
    answer = callout_core.approval(attempt, EVERYTHING, KEYS, NOW)
    outer = natsjwt.read(answer.encode(), KEYS.issuer.public, kind="A")
    assert (outer["aud"], outer["sub"]) == (SERVER.public, attempt.one_time)
    inner = natsjwt.read(outer["nats"]["jwt"].encode(), KEYS.issuer.public, kind="A")  # type: ignore[index]  # JSON of a known form
    assert (inner["aud"], inner["sub"], inner["name"]) == ("BUS", attempt.one_time, LOGIN)


def test_an_answer_opens_only_for_the_server_that_asked() -> None:
    sealed = callout_core.seal("answer", SERVER_X, KEYS.curve, b"n" * 24)
    box = Box(SERVER_CURVE, PublicKey(decode_public(KEYS.curve_public, "X")))
    assert box.decrypt(sealed.removeprefix(b"xkv1")) == b"answer"
    assert b"answer" not in sealed


def test_keys_do_not_show_in_a_repr() -> None:
    shown = repr(KEYS) + json.dumps(str(KEYS))
    assert not [key for key in (KEYS.issuer, KEYS.core, KEYS.auth, KEYS.system) if key.seed.decode("latin-1") in shown]
    assert shown.startswith("BusKeys()")
