"""Invites: a secret that one person hands to another, of which the server only ever sees the public key.

An invite is an nkey of its own. The token that is passed on carries its secret, the bus's id and the daemon's address,
so the server can neither redeem the invite nor have the newcomer believe in another bus.

    token = "unibus1." base64url(bus id, 32 bytes | secret, 32 bytes) "." base64url(URL)
"""

from dataclasses import dataclass

from unibus.crypto import nkeys
from unibus.crypto.encoding import b64u, transcript, unb64u
from unibus.errors import InvalidInput

PREFIX = "unibus1"


@dataclass(frozen=True, slots=True)
class InviteToken:
    """What a token carries: the bus's id, the invite's key, the daemon's address."""

    bus: str
    key: nkeys.SigningKey
    url: str

    @property
    def text(self) -> str:
        """The token. It is a secret until it is used."""
        return f"{PREFIX}.{b64u(unb64u(self.bus, size=32) + self.key.seed)}.{b64u(self.url.encode())}"

    def prove(self, user: str) -> str:
        """The invite's signature that `user` may join by it, base64url."""
        return b64u(self.key.sign(_claim(self.bus, self.key.public, user)))


def read_token(text: str) -> InviteToken:
    """The invite behind a token. Raises InvalidInput, which never repeats the secret text."""
    parts = text.strip().split(".")
    if len(parts) != 3 or parts[0] != PREFIX:
        raise InvalidInput(f"this is not an invite: one begins with {PREFIX}. and has three parts")
    try:
        secret, url = unb64u(parts[1], size=64), unb64u(parts[2]).decode()
    except (InvalidInput, UnicodeDecodeError) as error:
        raise InvalidInput("this invite is not whole: it was mistyped or cut") from error
    return InviteToken(b64u(secret[:32]), nkeys.SigningKey.from_seed(secret[32:]), url)


def proves(bus: str, invite: str, user: str, proof: str) -> bool:
    """Whether `proof` was made with the secret of `invite`, for `user` on `bus`."""
    try:
        signature = unb64u(proof, size=64)
    except InvalidInput:
        return False
    return nkeys.verify(invite, _claim(bus, invite, user), signature)


def _claim(bus: str, invite: str, user: str) -> bytes:
    return transcript("unibus invite proof v1", bus, invite, user)
