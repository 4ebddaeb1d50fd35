"""Who sent this request: the checks on a signed request, in an order that gives strangers nothing.

1. form, bus, time and whether a nonce of this process is one that it remembers, which cost next to nothing, so that
whoever repeats what is not good any more gets no more work done; 2. the signature over method, address and the digest
of the body;
3. whether the signer is a user; 4. the body, which is read only now and must have that digest; 5. the nonce, claimed
last, so that nobody without a user's key can fill the store with claims or burn a nonce of somebody else's. Where a
body is written as it comes (`authenticate_stream`), the nonce is claimed before it. Where the request names a nonce of
this process, its memory is where that is claimed (`http.nonces`); else the store, in which all nodes see it.

A user is looked up only after the signature held: otherwise the answers would tell anybody who is on the bus. Must
never take anything from a request that the signature does not cover, other than to refuse it.
"""

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from aiohttp import hdrs, web
from multidict import MultiMapping, istr

from unibus.crypto import httpsig
from unibus.errors import (
    InvalidInput,
    JustRestored,
    NonceReplayed,
    NotAUser,
    RateLimited,
    SignatureInvalid,
    SignatureMissing,
    SignatureStale,
    UnibusError,
    WrongBus,
)
from unibus.http.body import BODY_SECONDS, HELD_BODIES, ahead, read_blocks, read_body, read_pieces
from unibus.http.nonces import ServerNonces
from unibus.services.audit import ACTOR

_INPUT, _SIGNATURE, _DIGEST = istr("Signature-Input"), istr("Signature"), istr("Content-Digest")
# A Host with a slash in it would move part of the path into the authority: other request, same signed address.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_OTHER_BODY = "the body is not the one that was signed"
_USED = "this signed request was used before; sign it again with a new nonce"


class Claims(Protocol):
    """What is asked of the services: `unibus.services.claims.Claims` fits."""

    async def claim(self, name: str, expires_at: int) -> bool:
        """Claim `name` until the Unix time `expires_at`; False if it is claimed already."""

    async def catch_up(self) -> None:
        """Return once what is decided here is decided on all that any node had acknowledged before."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A request's authenticated sender (a public nkey) and the body that was signed, empty if there was none."""

    user: str
    body: bytes


class Authenticator:
    """Checks signed requests. `bus_id` gives this bus's id, or None before there is a bus; `clock` gives Unix time.

    `stranger` is what a signer hears who is no user; `body_seconds` is how long a body may take to arrive;
    `pace` raises RateLimited when a user asks too often, `unpace` takes one back that may be somebody else's copy;
    `held_bodies` is how many bytes of bodies one user may have on their way at once. Nothing signed up to what `floor`
    gives (Unix seconds) is good: it may have been used before the bus was restored, and which nonces were is not known
    any more.
    """

    def __init__(
        self,
        claims: Claims,
        nonces: ServerNonces,
        *,
        bus_id: Callable[[], str | None],
        is_user: Callable[[str], bool],
        clock: Callable[[], float],
        stranger: type[UnibusError] = NotAUser,
        body_seconds: float = BODY_SECONDS,
        pace: Callable[[str], None] | None = None,
        unpace: Callable[[str], None] | None = None,
        floor: Callable[[], int] = lambda: 0,
        held_bodies: int = HELD_BODIES,
    ) -> None:
        self._claims = claims
        self._nonces = nonces
        self._held: Counter[str] = Counter()
        self._most_held = held_bodies
        self._floor = floor
        self._bus_id = bus_id
        self._is_user = is_user
        self._clock = clock
        self._stranger = stranger
        self._body_seconds = body_seconds
        self._pace = pace
        self._unpace = unpace
        # The window, the body's time to arrive, and a window for the clocks of other nodes: by then the signature is
        # too old everywhere, and its claim may be forgotten.
        self._claim_seconds = 2 * httpsig.WINDOW + math.ceil(body_seconds)

    async def authenticate(self, request: web.BaseRequest, limit: int = 0) -> Caller:
        """The sender of `request` and its body of at most `limit` bytes. Succeeds once for a signature.

        Whether the sender may do what it asks is for the services to say, on the state at that moment. Raises
        SignatureMissing, SignatureInvalid, SignatureStale, WrongBus, NotAUser, NonceUnknown, NonceReplayed,
        RateLimited, and what `read_body` raises.
        """
        signed = self._verified(request)
        if not self._is_user(signed.user):
            await self._look_again(signed.user)
        self._admit(signed)
        body = await self._body(request, limit, signed) if signed.digest is not None else b""
        await self._claim(signed)
        return Caller(signed.user, body)

    async def authenticate_stream(
        self, request: web.BaseRequest, limit: int, *, named: bool = False
    ) -> tuple[str, AsyncIterator[bytes]]:
        """The sender of `request`, and its body of at most `limit` bytes in blocks as they come. For large bodies.

        `named` says that the address, which is signed, has a hash that the body must give: then it needs no
        Content-Digest, and who takes the blocks compares them with that hash.

        What is done with the blocks must be undone if they end in an error: SignatureInvalid when the body is not the
        one that was signed, and what `read_blocks` raises. The nonce is claimed before the body is read, so that a
        replayed request never gets to act on it. Raises as `authenticate`.
        """
        signed = self._verified(request, named=named)
        if not self._is_user(signed.user):
            await self._look_again(signed.user)
        self._admit(signed)
        if signed.digest is None and not named:
            raise SignatureInvalid("this request needs a body and its signed content-digest")
        await self._claim(signed)
        if signed.digest is None:
            return signed.user, read_pieces(request, limit, self._body_seconds)
        return signed.user, ahead(_checked_blocks(read_blocks(request, limit, self._body_seconds), signed.digest))

    async def _body(self, request: web.BaseRequest, limit: int, signed: httpsig.Signed) -> bytes:
        try:
            # Of a copy no body is waited for: it would take of what its signer may have on their way.
            if signed.server_nonce and self._nonces.is_claimed(signed.server_nonce, signed.user, signed.nonce):
                raise NonceReplayed(_USED)
            body = await self._hold_body(request, limit, signed.user)
            if httpsig.content_digest(body) != signed.digest:
                raise SignatureInvalid(_OTHER_BODY)
        except UnibusError:
            self._give_back(signed)
            raise
        return body

    async def _hold_body(self, request: web.BaseRequest, limit: int, user: str) -> bytes:
        # A nonce is claimed only after its body, so one signature can begin any number of bodies.
        size = min(limit, limit if request.content_length is None else request.content_length)
        if self._held[user] + size > self._most_held:
            raise RateLimited("you send too much at once: go on when some of it has arrived", retry_after=1.0)
        self._held[user] += size
        try:
            return await read_body(request, limit, self._body_seconds)
        finally:
            self._held[user] -= size
            if not self._held[user]:
                del self._held[user]

    async def _claim(self, signed: httpsig.Signed) -> None:
        if signed.server_nonce is not None:
            claimed = self._nonces.claim(signed.server_nonce, signed.user, signed.nonce)
        else:
            name = f"nonce/{signed.user}/{signed.nonce}"
            claimed = await self._claims.claim(name, signed.created + self._claim_seconds)
        if not claimed:
            self._give_back(signed)
            raise NonceReplayed(_USED)
        if signed.server_nonce is not None:
            await self._claims.catch_up()  # a claim in the store has done so on its way

    def _give_back(self, signed: httpsig.Signed) -> None:
        # Whoever repeats what they overheard, with this body or another, must not use up what its signer may ask.
        if self._unpace is not None:
            self._unpace(signed.user)

    def _verified(self, request: web.BaseRequest, *, named: bool = False) -> httpsig.Signed:
        headers = request.headers
        signature_input, signature = _single(headers, _INPUT), _single(headers, _SIGNATURE)
        if signature_input is None or signature is None:
            raise SignatureMissing("this request must be signed; use the unibus client or see docs/protocol.md")
        signed = httpsig.parse(signature_input, signature, _single(headers, _DIGEST))
        if signed.digest is None and request.body_exists and not named:
            raise SignatureInvalid("a request with a body must send and sign its content-digest")
        if signed.bus != self._bus_id():
            raise WrongBus("this request was signed for another bus; check the address, or the bus you joined")
        now = self._clock()
        httpsig.check_fresh(signed.created, now)
        floor = self._floor()
        if now <= floor:
            left = math.ceil(floor - now) + 1
            raise JustRestored(
                f"the bus was restored or moved a moment ago: ask again in {left} s", retry_after=float(left)
            )
        if signed.created <= floor:
            raise SignatureStale(
                "the request was signed before the bus was restored or moved: sign it again", server_time=int(now)
            )
        if signed.server_nonce is not None:
            self._nonces.check(signed.server_nonce)
        httpsig.verify(signed, request.method, _target_uri(request))
        return signed

    async def _look_again(self, user: str) -> None:
        await self._claims.catch_up()  # another node may have taken somebody in just now
        if not self._is_user(user):
            raise self._stranger

    def _admit(self, signed: httpsig.Signed) -> None:
        if self._pace is not None:
            self._pace(signed.user)  # only now: nobody else can use up what a user may ask
        ACTOR.set(signed.user)


async def _checked_blocks(blocks: AsyncGenerator[bytes, None], digest: str) -> AsyncGenerator[bytes, None]:
    hasher = sha256()
    async with aclosing(blocks):
        async for block in blocks:
            # The hash of one block takes longer than a thread to be handed it, and leaves the loop to others.
            await asyncio.to_thread(hasher.update, block)
            yield block
    if httpsig.digest_header(hasher.digest()) != digest:
        raise SignatureInvalid(_OTHER_BODY)


def _single(headers: MultiMapping[str], name: istr) -> str | None:
    """The header's value, or None where there is none. Raises SignatureInvalid if it is sent twice."""
    values = headers.getall(name, None)
    if values is None:
        return None
    if len(values) > 1:
        raise SignatureInvalid(f"the header {name} must be sent once")
    return values[0]


def _target_uri(request: web.BaseRequest) -> str:
    """The address as the sender must have signed it (RFC 9421 section 2.2.2), nothing in it decoded or tidied."""
    host, path = _single(request.headers, hdrs.HOST), request.raw_path
    if host is None or not _HOST.fullmatch(host) or not path.startswith("/"):
        raise InvalidInput("a signed request needs one Host header with a plain name, and a target that starts with /")
    return f"{request.scheme}://{host}{path}"
