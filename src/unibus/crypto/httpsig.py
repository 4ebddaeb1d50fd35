"""Signed HTTP requests: the one narrow profile of HTTP Message Signatures (RFC 9421) that unibus speaks.

One signature, labelled `unibus`, covers exactly `@method`, `@target-uri` and, where the request has a Content-Digest
(RFC 9530), `content-digest`. Its parameters are exactly created, nonce, alg, keyid and tag, each once, in any order,
in the canonical text of RFC 8941: what was received is what was signed, and nothing is serialized again. All else is
refused, also where the RFC would allow it: a verifier that offers no choice cannot be talked into the weaker one.

Pure: takes the time and the nonce, reads no clock, does no I/O. Must never take a value from a request that the
signature does not cover.
"""

import re
from base64 import b64encode
from binascii import a2b_base64
from hashlib import sha256
from typing import NamedTuple

from unibus.crypto import nkeys
from unibus.errors import SignatureInvalid, SignatureStale

WINDOW = 60
"""How far, in seconds, `created` may be from the verifier's clock, either way."""
NONCE_HEADER = "Unibus-Nonce"
"""The header in which a node's answers have the nonce that only this node takes (as in RFC 9449 section 8)."""

# The repeated alternation matches five parameters and remembers each kind's last: five groups set means each kind once.
_INPUT = re.compile(
    r'unibus=(\("@method" "@target-uri"( "content-digest")?\)'
    r'(?:;(?:created=([1-9][0-9]{0,11})|nonce="([A-Za-z0-9_-]{22})(?:\.([A-Za-z0-9_-]{22}))?"|(alg="ed25519")'
    r'|keyid="(U[A-Z2-7]{55})"|tag="unibus:([A-Za-z0-9_-]{43})")){5})'
)
_SERVER_NONCE = re.compile(r"[A-Za-z0-9_-]{22}")
# The last character before the padding has four spare bits; only texts that leave them zero are canonical.
_SIGNATURE = re.compile(r"unibus=:([A-Za-z0-9+/]{85}[AQgw]==):")
_DIGEST = re.compile(r"sha-256=:[A-Za-z0-9+/]{43}=:")
_TARGET = re.compile(r"https?://[!-~]+/[!-~]*")
_METHOD = re.compile(r"[A-Z]{1,20}")

_FORM = (
    "the signature headers are not of the required form: "
    'sign as `unibus=("@method" "@target-uri");created=…;nonce="…";alg="ed25519";keyid="U…";tag="unibus:<bus>"`, '
    'with "content-digest" third where there is a body'
)


class Signed(NamedTuple):
    """What a request's signature claims, checked for form and nothing else. `created` is Unix time in seconds.

    `digest` is the covered Content-Digest or None, `params` the signature parameters as received. `server_nonce` is
    the one of the node that alone may take the request, or None.
    """

    user: str
    created: int
    nonce: str
    bus: str
    digest: str | None
    params: str
    signature: bytes
    server_nonce: str | None


def is_server_nonce(text: str) -> bool:
    """Whether `text`, which a node says is its nonce, can be one: nothing else must get into a signature."""
    return _SERVER_NONCE.fullmatch(text) is not None


def content_digest(body: bytes) -> str:
    """The Content-Digest header of `body` (RFC 9530 section 2), SHA-256 only."""
    return digest_header(sha256(body).digest())


def digest_header(digest: bytes) -> str:
    """The Content-Digest header of a body with this SHA-256."""
    return f"sha-256=:{b64encode(digest).decode('ascii')}:"


def _base(method: str, target_uri: str, digest: str | None, params: str) -> bytes:
    """The signature base (RFC 9421 section 2.5). Raises SignatureInvalid where text could pose as another line."""
    if not (_METHOD.fullmatch(method) and _TARGET.fullmatch(target_uri)):
        raise SignatureInvalid("only upper-case methods and absolute ASCII http(s) addresses can be signed")
    covered = f'"content-digest": {digest}\n' if digest is not None else ""
    return f'"@method": {method}\n"@target-uri": {target_uri}\n{covered}"@signature-params": {params}'.encode("ascii")


def sign(
    key: nkeys.SigningKey,
    method: str,
    target_uri: str,
    body: bytes,
    *,
    bus: str,
    created: int,
    nonce: str,
    server_nonce: str | None = None,
) -> dict[str, str]:
    """The headers that sign a request: Signature-Input, Signature, and Content-Digest where `body` is not empty.

    `target_uri` is what the server will put together: scheme, `://`, the Host header and the request target, to the
    byte. `created` is Unix time in seconds. `nonce` is 16 random bytes in base64url, new for every attempt;
    `server_nonce` is what the node gave out (as in RFC 9449 section 8), so that only this node can take the request.
    Raises SignatureInvalid for what the profile cannot carry.
    """
    digest = content_digest(body) if body else None
    components = '"@method" "@target-uri"' + (' "content-digest"' if digest else "")
    both = nonce if server_nonce is None else f"{nonce}.{server_nonce}"
    params = f'({components});created={created};nonce="{both}";alg="ed25519";keyid="{key.public}";tag="unibus:{bus}"'
    if not _INPUT.fullmatch(f"unibus={params}"):
        raise SignatureInvalid("the bus id, the time or the nonce is not of the required form")
    signature = key.sign(_base(method, target_uri, digest, params))
    headers = {
        "Signature-Input": f"unibus={params}",
        "Signature": f"unibus=:{b64encode(signature).decode('ascii')}:",
    }
    return headers if digest is None else {"Content-Digest": digest, **headers}


def parse(signature_input: str, signature: str, digest: str | None) -> Signed:
    """Read the values of Signature-Input, Signature and Content-Digest (None where absent).

    Raises SignatureInvalid for everything outside the profile, and where the digest is there but not covered or
    covered but not there.
    """
    found = _INPUT.fullmatch(signature_input)
    value = _SIGNATURE.fullmatch(signature)
    if found is None or value is None:
        raise SignatureInvalid(_FORM)
    params, covered, created, nonce, server_nonce, alg, user, bus = found.groups()
    if created is None or nonce is None or alg is None or user is None or bus is None:
        raise SignatureInvalid(_FORM)
    if (covered is None) != (digest is None):
        raise SignatureInvalid("content-digest must be sent and signed where there is a body, and only there")
    if digest is not None and not _DIGEST.fullmatch(digest):
        raise SignatureInvalid("content-digest must be `sha-256=:…:` and nothing else")
    return Signed(user, int(created), nonce, bus, digest, params, a2b_base64(value[1]), server_nonce)


def check_fresh(created: int, now: float) -> None:
    """Return if `created` is within WINDOW of `now` (both Unix time, seconds). Raises SignatureStale."""
    if abs(now - created) > WINDOW:
        when = "ago" if created < now else "in the future"
        off = abs(int(now) - created)
        raise SignatureStale(f"the request was signed {off} s {when}; set this machine's clock", server_time=int(now))


def verify(signed: Signed, method: str, target_uri: str) -> None:
    """Return if the key named in `signed` made this signature for this request. Raises SignatureInvalid.

    Says nothing yet of the time, the nonce, the bus, the body, or whether that key is anybody's.
    """
    base = _base(method, target_uri, signed.digest, signed.params)
    if not nkeys.verify(signed.user, base, signed.signature):
        raise SignatureInvalid(
            "the signature does not match: sign the address exactly as it is sent, with the key in keyid"
        )
