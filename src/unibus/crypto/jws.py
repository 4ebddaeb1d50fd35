"""JWS compact serialization (RFC 7515 section 7.1) with EdDSA (RFC 8037), narrowed to what unibus signs.

The protected header has exactly `alg` ("EdDSA"), `kid` (a user nkey) and `typ`; anything else, `crit` and `jwk`
among it, is refused. What was signed is kept to the byte and never serialized again to verify it. Any JOSE tool
reads these; this module exists because it verifies a record in little more than the time of the signature check.
"""

from dataclasses import dataclass
from functools import lru_cache

from unibus.crypto.encoding import b64u, dump_json, load_json, unb64u
from unibus.crypto.nkeys import SigningKey, verify
from unibus.errors import InvalidInput, MalformedRecord

MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Verified:
    """A JWS whose signature holds: who signed (`U…`), and the payload's bytes."""

    signer: str
    payload: bytes


def sign(key: SigningKey, typ: str, payload: bytes) -> bytes:
    """The compact JWS over `payload` under `key`."""
    header = dump_json({"alg": "EdDSA", "kid": key.public, "typ": typ})
    signed = f"{b64u(header)}.{b64u(payload)}".encode("ascii")
    return signed + b"." + b64u(key.sign(signed)).encode("ascii")


def verify_compact(token: bytes, typ: str) -> Verified:
    """Check `token` against the key that its own header names. Whether that key may sign is the caller's question.

    Raises MalformedRecord for any deviation in form and for a signature that does not hold.
    """
    if len(token) > MAX_BYTES:
        raise MalformedRecord(f"a signed record is at most {MAX_BYTES} bytes")
    signed, _, tail = token.rpartition(b".")
    head, dot, body = signed.partition(b".")
    if not dot or b"." in body:
        raise MalformedRecord("a compact JWS has three parts")
    try:
        signer = _signer(head, typ)
        payload, signature = unb64u(body), unb64u(tail, size=64)
    except InvalidInput as error:
        raise MalformedRecord(f"not a compact JWS: {error}") from error
    if not verify(signer, signed, signature):
        raise MalformedRecord("the signature does not hold")
    return Verified(signer, payload)


@lru_cache(maxsize=4096)
def _signer(head: bytes, typ: str) -> str:
    """Whom the encoded header names: the same for all that somebody signs. Raises InvalidInput, MalformedRecord."""
    header = load_json(unb64u(head))
    if not isinstance(header, dict) or set(header) != {"alg", "kid", "typ"}:
        raise MalformedRecord("the JWS header must have exactly alg, kid and typ")
    signer = header["kid"]
    if header["alg"] != "EdDSA" or header["typ"] != typ or not isinstance(signer, str):
        raise MalformedRecord(f"the JWS header must say alg EdDSA and typ {typ}")
    return signer
