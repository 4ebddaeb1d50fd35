"""NATS JSON Web Tokens: the compact form (RFC 7515) signed by nkeys, as nats-server writes and reads it.

Source: the NATS JWT specification, version 2 (`alg` "ed25519-nkey"). Pure. Must never accept another algorithm.
"""

from collections.abc import Mapping
from functools import lru_cache

from unibus.crypto.encoding import b64u, dump_json, load_json, unb64u
from unibus.crypto.nkeys import SigningKey, verify
from unibus.errors import InvalidInput

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_WRITTEN = b64u(dump_json(_HEADER))


def sign(claims: Mapping[str, object], issuer: SigningKey) -> str:
    """A token with `claims`, issued (`iss`) and signed by `issuer`."""
    signed = f"{_WRITTEN}.{b64u(dump_json({**claims, 'iss': issuer.public}))}"
    return f"{signed}.{b64u(issuer.sign(signed.encode()))}"


def read(token: bytes, issuer: str, *, kind: str) -> Mapping[str, object]:
    """The claims of `token` if it was signed by `issuer`, an nkey of `kind`. Raises InvalidInput."""
    try:
        head, body, signature = token.split(b".")
    except ValueError as error:
        raise InvalidInput("not a token: three parts expected") from error
    _check_header(head)
    if not verify(issuer, head + b"." + body, unb64u(signature, size=64), kind):
        raise InvalidInput("the token's signature does not hold")
    claims = load_json(unb64u(body))
    if not isinstance(claims, dict) or claims.get("iss") != issuer:
        raise InvalidInput("the token names another issuer")
    return claims


@lru_cache(maxsize=4)
def _check_header(head: bytes) -> None:
    if load_json(unb64u(head)) != _HEADER:
        raise InvalidInput("not a NATS token: its header is another")
