"""NATS JSON Web Tokens: the compact form (RFC 7515) signed by nkeys, as nats-server writes and reads it.

Source: the NATS JWT specification, version 2 (`alg` "ed25519-nkey"). Pure. Must never accept another algorithm.
"""

from collections.abc import Mapping

from unibus.crypto.encoding import b64u, dump_json, load_json, unb64u
from unibus.crypto.nkeys import SigningKey, verify
from unibus.errors import InvalidInput

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


def sign(claims: Mapping[str, object], issuer: SigningKey) -> str:
    """A token with `claims`, issued (`iss`) and signed by `issuer`."""
    head = b64u(dump_json(_HEADER))
    body = b64u(dump_json({**claims, "iss": issuer.public}))
    return f"{head}.{body}.{b64u(issuer.sign(f'{head}.{body}'.encode()))}"


def read(token: bytes, issuer: str, *, kind: str) -> Mapping[str, object]:
    """The claims of `token` if it was signed by `issuer`, an nkey of `kind`. Raises InvalidInput."""
    try:
        head, body, signature = token.split(b".")
    except ValueError as error:
        raise InvalidInput("not a token: three parts expected") from error
    if load_json(unb64u(head)) != _HEADER:
        raise InvalidInput("not a NATS token: its header is another")
    if not verify(issuer, head + b"." + body, unb64u(signature, size=64), kind):
        raise InvalidInput("the token's signature does not hold")
    claims = load_json(unb64u(body))
    if not isinstance(claims, dict) or claims.get("iss") != issuer:
        raise InvalidInput("the token names another issuer")
    return claims
