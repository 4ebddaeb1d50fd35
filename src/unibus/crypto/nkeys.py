"""NATS nkeys: Ed25519 keys written as base32 text with a role prefix and a checksum.

Source: the NATS nkeys specification (prefix bytes and CRC-16/XMODEM, little endian). Holds no state, does no I/O.
Signing and verifying are libsodium's (PyNaCl), which is the faster of our two libraries at both and refuses small-order
keys and non-canonical signatures.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from functools import lru_cache

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from unibus.errors import InvalidInput

# Prefix bytes: their upper five bits are the first letter of the text.
USER, ACCOUNT, SERVER, CURVE, SEED = 20 << 3, 0, 13 << 3, 23 << 3, 18 << 3
# nats-server sends 11 random bytes in base64url.
_NONCE = re.compile(rb"[A-Za-z0-9_-]{1,64}")
# The alphabet of base32 (RFC 4648 section 6) to the digits of `int`; whatever else `int` takes becomes no digit.
_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_DIGITS = bytes(b"0123456789abcdefghijklmnopqrstuv!"[_BASE32.find(each)] for each in range(256))
_LETTERS = {"U": USER, "A": ACCOUNT, "N": SERVER, "X": CURVE}


def _pack(payload: bytes) -> str:
    checked = payload + binascii.crc_hqx(payload, 0).to_bytes(2, "little")
    return base64.b32encode(checked).rstrip(b"=").decode("ascii")


def _unpack(text: str) -> bytes:
    spare = len(text) * 5 % 8  # bits beyond the last whole byte: in the one text of some bytes zeros, and never five
    try:
        number = int(text.encode("ascii").translate(_DIGITS), 32)
    except ValueError as error:
        raise InvalidInput("not an nkey: base32 expected") from error
    raw = (number >> spare).to_bytes(len(text) * 5 // 8, "big")
    payload, checksum = raw[:-2], raw[-2:]
    if spare >= 5 or number % 2**spare or binascii.crc_hqx(payload, 0).to_bytes(2, "little") != checksum:
        raise InvalidInput("not an nkey: the checksum does not match, it was mistyped or cut")
    return payload


def encode_public(kind: str, key: bytes) -> str:
    """The text of a 32-byte public key of `kind` (one of U, A, N, X)."""
    return _pack(bytes([_LETTERS[kind]]) + key)


@lru_cache(maxsize=65_536)
def decode_public(text: str, kind: str = "U") -> bytes:
    """The 32 bytes behind a public nkey of `kind`. Raises InvalidInput."""
    payload = _unpack(text)
    if len(payload) != 33 or payload[0] != _LETTERS[kind]:
        raise InvalidInput(f"not a public nkey that starts with {kind}")
    return payload[1:]


def encode_seed(kind: str, seed: bytes) -> str:
    """The text (`S` + kind) of a 32-byte seed."""
    prefix = _LETTERS[kind]
    return _pack(bytes([SEED | (prefix >> 5), (prefix & 31) << 3]) + seed)


def decode_seed(text: str, kind: str = "U") -> bytes:
    """The 32 bytes behind a seed of `kind`. Raises InvalidInput, which never repeats the secret text."""
    payload = _unpack(text)
    prefix = _LETTERS[kind]
    if len(payload) != 34 or payload[:2] != bytes([SEED | (prefix >> 5), (prefix & 31) << 3]):
        raise InvalidInput(f"not an nkey seed that starts with S{kind}")
    return payload[2:]


def verify(public: str, message: bytes, signature: bytes, kind: str = "U") -> bool:
    """Whether `signature` (64 bytes) over `message` was made by the key behind `public` (RFC 8032)."""
    if len(signature) != crypto_sign_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, decode_public(public, kind))
    except (BadSignatureError, InvalidInput):
        return False
    return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private nkey: its seed, its public text, and `sign`."""

    kind: str
    seed: bytes
    public: str
    _key: bytes

    @classmethod
    def from_seed(cls, seed: bytes, kind: str = "U") -> "SigningKey":
        """From 32 secret bytes."""
        public, key = crypto_sign_seed_keypair(seed)
        return cls(kind, seed, encode_public(kind, public), key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature (RFC 8032) over `message`."""
        return crypto_sign(message, self._key)[:crypto_sign_BYTES]

    def sign_nonce(self, nonce: bytes) -> bytes:
        """The signature over the nonce that a nats-server sends to whoever connects.

        The server chooses these bytes. One that lies would send the signing input of a record, or of anything else
        that this key signs, and so get it signed. None of those is a short text without dots, as a nonce is. Raises
        InvalidInput for what is not a nonce.
        """
        if not _NONCE.fullmatch(nonce):
            raise InvalidInput("the server sent something to sign that is not a nonce: do not trust it")
        return self.sign(nonce)

    def __repr__(self) -> str:
        return f"SigningKey({self.public})"
