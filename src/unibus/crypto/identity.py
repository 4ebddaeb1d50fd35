"""An identity: one secret, a NATS user seed (`SU…`), from which the signing and the sealing key both follow.

The card is what an identity shows to others: its two public keys in one JWS signed by itself, so that nobody can pair
somebody's signing key with a sealing key of their own. Never writes the secret anywhere; the client does that.
"""

from dataclasses import dataclass

from unibus.crypto import jws, nkeys, sealing
from unibus.crypto.encoding import b64u, dump_json, load_json, unb64u
from unibus.errors import InvalidInput, MalformedRecord

CARD_TYP = "unibus-card+jws"


@dataclass(frozen=True, slots=True)
class Card:
    """A verified card: who (`U…`), the public sealing key, and the JWS it was read from."""

    user: str
    sealing: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Identity:
    """The private side of one user. `user` is the public nkey that names it everywhere."""

    signing: nkeys.SigningKey
    sealing: sealing.SealingKey

    @classmethod
    def from_secret(cls, secret: bytes) -> "Identity":
        """From 32 secret bytes: the Ed25519 seed; the sealing seed is HKDF-SHA256 (RFC 5869) of it."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        derive = HKDF(SHA256(), length=32, salt=None, info=b"unibus sealing key v1")
        return cls(nkeys.SigningKey.from_seed(secret), sealing.SealingKey.from_seed(derive.derive(secret)))

    @classmethod
    def from_seed(cls, text: str) -> "Identity":
        """From a NATS user seed, `SU…`. Raises InvalidInput."""
        return cls.from_secret(nkeys.decode_seed(text))

    @property
    def user(self) -> str:
        return self.signing.public

    @property
    def seed(self) -> str:
        """The secret as `SU…`: whoever has it is this user."""
        return nkeys.encode_seed("U", self.signing.seed)

    def card(self) -> str:
        """The card to hand to an admin. It holds no secret, and is the same each time."""
        payload = {
            "sealing": {"key": b64u(self.sealing.public), "suite": sealing.SUITE},
            "user": self.user,
            "v": 1,
        }
        return jws.sign(self.signing, CARD_TYP, dump_json(payload)).decode("ascii")


def read_card(text: str) -> Card:
    """Verify a card. Raises InvalidInput when it is not whole, or not signed by the identity it names."""
    try:
        verified = jws.verify_compact(text.encode("ascii"), CARD_TYP)
        payload = load_json(verified.payload)
    except (MalformedRecord, UnicodeEncodeError, InvalidInput) as error:
        raise InvalidInput(f"this is not a whole identity card: {error}") from error
    match payload:
        case {
            "v": version,
            "user": verified.signer,
            "sealing": {"suite": sealing.SUITE, "key": str(key), **more},
            **rest,
        } if type(version) is int and version == 1 and not more and not rest:  # true and 1.0 also equal 1
            return Card(verified.signer, sealing.check_public(unb64u(key)), text)
        case _:
            raise InvalidInput("this identity card is of an unknown form: a newer unibus may know it")
