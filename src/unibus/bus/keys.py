"""The bus's own keys: what the daemon holds and nats-server only knows the public half of.

They are made anew at each start and live in memory alone. This module must never write one anywhere, nor let one
show in a log or a repr.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from nacl.public import PrivateKey

from unibus.crypto.nkeys import SigningKey, encode_public, encode_seed


@dataclass(frozen=True, slots=True)
class BusKeys:
    """`issuer` signs what the callout answers, `curve` opens what it is asked; the others are the daemon's logins."""

    issuer: SigningKey = field(repr=False)
    auth: SigningKey = field(repr=False)
    core: SigningKey = field(repr=False)
    system: SigningKey = field(repr=False)
    curve: PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, random: Callable[[int], bytes]) -> "BusKeys":
        """Fresh keys from `random`, which returns that many secret bytes."""
        return cls(
            issuer=SigningKey.from_seed(random(32), "A"),
            auth=SigningKey.from_seed(random(32)),
            core=SigningKey.from_seed(random(32)),
            system=SigningKey.from_seed(random(32)),
            curve=PrivateKey(random(32)),
        )

    @property
    def curve_public(self) -> str:
        """The public half of `curve` as an nkey (`X…`)."""
        return encode_public("X", bytes(self.curve.public_key))


def login_seed(key: SigningKey) -> str:
    """The seed text of one of the daemon's logins, as nats-py wants it."""
    return encode_seed(key.kind, key.seed)
