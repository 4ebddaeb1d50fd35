"""Sealing a room key to one person: HPKE (RFC 9180), single shot, base mode.

The one suite is ML-KEM-768 with X25519, HKDF-SHA256, AES-256-GCM: what is recorded today stays closed to a quantum
computer later. Its identifiers stand in every sealed key's header, so that another suite can be added beside it.
HPKE's base mode does not say who sealed; the signed record does, by committing to the key inside.

What does it is loaded when it is first done: a daemon seals and opens nothing, and is some megabytes smaller.

    sealed key = version 0x01 | KEM id, KDF id, AEAD id (2 bytes each, big endian) | enc (1120) | ciphertext

The key pair expands from 32 secret bytes as in X-Wing (draft-connolly-cfrg-xwing-kem): SHAKE-256 to 96 bytes, of
which 64 seed ML-KEM-768 (FIPS 203) and 32 are the X25519 key.
"""

import hashlib
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from unibus.errors import InvalidInput, SealedKeyInvalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

SUITE = "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"
PUBLIC_BYTES = 1184 + 32
SEALED_BYTES = 7 + 1120 + 32 + 16
_HEADER = bytes([1]) + bytes.fromhex("647a00010002")

# A card is checked for every record that admits somebody, so by arithmetic: making the library's keys takes 20 times
# as long. Coefficients of ML-KEM are 12 bits each, here every other one of them, so that each has room for a carry.
_EVERY_OTHER = sum(1 << 24 * place for place in range(384))
_COEFFICIENTS, _CARRIES = 0xFFF * _EVERY_OTHER, 0x1000 * _EVERY_OTHER
_CARRY_FROM_Q = (0x1000 - 3329) * _EVERY_OTHER
_PRIME = 2**255 - 19
# Of order 1, 2, 4 and 8, on the curve or its twist, and the two of them that can be written twice.
_SMALL_ORDER = frozenset(
    {
        *(0, 1, _PRIME - 1, _PRIME, _PRIME + 1),
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    }
)


@cache
def _suite() -> "Suite":
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A private sealing key and its public bytes (`PUBLIC_BYTES` long)."""

    public: bytes
    _key: "MLKEM768X25519PrivateKey"

    @classmethod
    def from_seed(cls, seed: bytes) -> "SealingKey":
        """From 32 secret bytes."""
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

        expanded = hashlib.shake_256(seed).digest(96)
        post_quantum = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        classical = X25519PrivateKey.from_private_bytes(expanded[64:])
        public = post_quantum.public_key().public_bytes_raw() + classical.public_key().public_bytes_raw()
        return cls(public, MLKEM768X25519PrivateKey(post_quantum, classical))

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The 32 bytes inside. Raises SealedKeyInvalid."""
        from cryptography.exceptions import InvalidTag

        if len(sealed) != SEALED_BYTES or sealed[:7] != _HEADER:
            raise SealedKeyInvalid("this sealed key is of an unknown form or suite: a newer unibus may know it")
        try:
            return _suite().decrypt(sealed[7:], self._key, info)
        except (InvalidTag, ValueError) as error:
            raise SealedKeyInvalid from error

    def __repr__(self) -> str:
        return "SealingKey(…)"


def check_public(public: bytes) -> bytes:
    """`public` if it is a usable public sealing key. Raises InvalidInput.

    ML-KEM's part by the checks of FIPS 203 section 7.2. An X25519 point of small order (RFC 7748 section 6.1) can be
    read and not be sealed to: whoever has one in a card could, once in a room, stop every later key from being sealed,
    also that of their own removal.
    """
    if len(public) != PUBLIC_BYTES:
        raise InvalidInput(f"a sealing key has {PUBLIC_BYTES} bytes")
    coefficients = int.from_bytes(public[:1152], "little")
    even, odd = coefficients & _COEFFICIENTS, (coefficients >> 12) & _COEFFICIENTS
    beyond = ((even + _CARRY_FROM_Q) | (odd + _CARRY_FROM_Q)) & _CARRIES
    # RFC 7748 section 5: the highest bit of a point is ignored.
    if beyond or int.from_bytes(public[1184:], "little") % 2**255 in _SMALL_ORDER:
        raise InvalidInput("not a sealing key")
    return public


@lru_cache(maxsize=4096)
def _public_key(public: bytes) -> "MLKEM768X25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hpke import MLKEM768X25519PublicKey

    check_public(public)
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public[:1184]), X25519PublicKey.from_public_bytes(public[1184:])
        )
    except ValueError as error:
        raise InvalidInput("not a sealing key") from error


def seal(public: bytes, secret: bytes, info: bytes) -> bytes:
    """`secret` (32 bytes) sealed to the key `public`, bound to `info`. Raises InvalidInput for a bad key."""
    key = _public_key(public)
    try:
        return _HEADER + _suite().encrypt(secret, key, info)
    except ValueError as error:
        raise InvalidInput("this sealing key cannot be sealed to") from error
