"""The auth callout's decisions: bytes of a request in, who is asking out; an answer in, signed bytes out.

Source: the NATS auth callout (ADR-26). Pure: clock and randomness are arguments. Must never take an identity for
proven before its signature over the server's nonce was verified: nats-server leaves that to the callout.
"""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey
from pydantic import BaseModel, ValidationError

from unibus.bus import natsjwt
from unibus.bus.config import LOGIN, MEMBERS
from unibus.bus.keys import BusKeys
from unibus.bus.permissions import Permissions
from unibus.crypto.nkeys import decode_public, verify
from unibus.errors import InvalidInput, SignatureInvalid, SignatureMissing
from unibus.model.names import check_room_id

SUBJECT = "$SYS.REQ.USER.AUTH"
XKEY_HEADER = "Nats-Server-Xkey"
ROOMS_PREFIX = "rooms="
_SEALED = b"xkv1"
_AUDIENCE = "nats-authorization-request"
_ONE_TIME = re.compile(r"U[A-Z2-7]{55}")
"""A user's public nkey by its look: the server has just made it up, signed it, and never uses it again."""


class _Client(BaseModel):
    id: int
    kind: str
    type: str = ""
    host: str = ""
    nonce: str = ""


class _Connect(BaseModel):
    nkey: str = ""
    user: str = ""
    sig: str = ""
    auth_token: str = ""


class _Server(BaseModel):
    id: str


class _Request(BaseModel):
    server_id: _Server
    user_nkey: str
    client_info: _Client
    connect_opts: _Connect


@dataclass(frozen=True, slots=True)
class Attempt:
    """One connection that asks to be let in. `cid` is its number at the server, `claimed` not yet proven.

    `one_time` is the key that the server made up for this request, `reply_to` its curve key (`X…`).
    `login` is a user name that was sent, or what nats-server itself calls a connection that it asks about again.
    """

    server: str
    one_time: str
    cid: int
    host: str
    transport: str
    claimed: str
    login: str
    nonce: str
    signature: str
    wish: str
    reply_to: str


def read_request(body: bytes, reply_to: str, keys: BusKeys, server: str, now: int) -> Attempt:
    """The attempt in a request that our own server (`server`, `N…`) encrypted to us and signed.

    `reply_to` is the request's curve key header, `now` the Unix time in seconds. Raises InvalidInput.
    """
    claims = natsjwt.read(_open(body, reply_to, keys.curve), server, kind="N")
    expires = claims.get("exp")
    if claims.get("aud") != _AUDIENCE or claims.get("sub") != keys.issuer.public:
        raise InvalidInput("the request is meant for another")
    if not isinstance(expires, int) or expires < now:
        raise InvalidInput("the request has expired")
    try:
        request = _Request.model_validate(claims.get("nats"))
    except ValidationError as error:
        raise InvalidInput("the request lacks what a callout request has") from error
    if request.server_id.id != server:
        raise InvalidInput("the request names another server")
    if not _ONE_TIME.fullmatch(request.user_nkey):
        raise InvalidInput("the request names no key for the connection")
    client, connect = request.client_info, request.connect_opts
    return Attempt(
        server=server,
        one_time=request.user_nkey,
        cid=client.id,
        host=client.host,
        transport=f"{client.kind}/{client.type}",
        claimed=connect.nkey,
        login=connect.user,
        nonce=client.nonce,
        signature=connect.sig,
        wish=connect.auth_token,
        reply_to=reply_to,
    )


def prove(attempt: Attempt) -> str:
    """The user behind the attempt. Raises SignatureMissing or SignatureInvalid."""
    if attempt.transport not in {"Client/nats", "Client/websocket"}:
        raise SignatureInvalid("only NATS clients may connect, over TCP or a WebSocket")
    if not attempt.claimed or not attempt.signature or not attempt.nonce:
        raise SignatureMissing("connect with the nkey seed of your identity")
    if not verify(attempt.claimed, attempt.nonce.encode(), _signature(attempt.signature)):
        raise SignatureInvalid("the signature over the server's nonce does not hold")
    return attempt.claimed


def recalled(attempt: Attempt, user: str, rooms: Collection[str]) -> Attempt:
    """The attempt as it was first made by `user` for `rooms`, of a connection that nats-server asks about again.

    It has forgotten the nkey and the token by then, but not the signature, which is verified anew.
    """
    return replace(attempt, claimed=user, wish=ROOMS_PREFIX + ",".join(sorted(rooms)))


def wished_rooms(attempt: Attempt) -> tuple[str, ...] | None:
    """The rooms that the connection says it opens (token `rooms=<id>,<id>`), None for all. Raises InvalidInput."""
    if not attempt.wish:
        return None
    if not attempt.wish.startswith(ROOMS_PREFIX):
        raise InvalidInput(f"a connection's token is {ROOMS_PREFIX}<id>,<id> or absent")
    listed = attempt.wish.removeprefix(ROOMS_PREFIX)
    return tuple(dict.fromkeys(check_room_id(room) for room in listed.split(","))) if listed else ()


def approval(attempt: Attempt, granted: Permissions, keys: BusKeys, now: int, until: int | None = None) -> str:
    """The answer that lets the connection into the members' account, with `granted` and nothing else.

    nats-server ends the connection at the Unix time `until`, in seconds.
    """
    user = {
        "iat": now,
        "sub": attempt.one_time,
        "aud": MEMBERS,
        "name": LOGIN,
        "nats": {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1, **granted.claims()},
        **({} if until is None else {"exp": until}),
    }
    return _answer(attempt, {"jwt": natsjwt.sign(user, keys.issuer)}, keys, now)


def refusal(attempt: Attempt, reason: str, keys: BusKeys, now: int) -> str:
    """The answer that turns the connection away. `reason` reaches the server's log, not the client."""
    return _answer(attempt, {"error": reason}, keys, now)


def seal(answer: str, reply_to: str, curve: PrivateKey, nonce: bytes) -> bytes:
    """`answer` encrypted to the server's curve key; `nonce` is 24 fresh random bytes."""
    return _SEALED + _box(curve, reply_to).encrypt(answer.encode(), nonce)


def _answer(attempt: Attempt, verdict: Mapping[str, object], keys: BusKeys, now: int) -> str:
    nats = {"type": "authorization_response", "version": 2, **verdict}
    claims = {"iat": now, "sub": attempt.one_time, "aud": attempt.server, "nats": nats}
    return natsjwt.sign(claims, keys.issuer)


def _open(body: bytes, reply_to: str, curve: PrivateKey) -> bytes:
    if not reply_to or not body.startswith(_SEALED):
        raise InvalidInput("the request is not encrypted")
    try:
        return _box(curve, reply_to).decrypt(body.removeprefix(_SEALED))
    except (CryptoError, ValueError) as error:
        raise InvalidInput("the request was not encrypted for this daemon") from error


@lru_cache(maxsize=4)
def _box(curve: PrivateKey, reply_to: str) -> Box:
    """What is shared with the server's curve key, which stays the same while the server lives."""
    return Box(curve, PublicKey(decode_public(reply_to, "X")))


def _signature(text: str) -> bytes:
    """The signature's bytes: clients write either base64 alphabet (RFC 4648), with padding or without."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureInvalid("the signature is not base64") from error
