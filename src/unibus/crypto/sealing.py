"""Sealing a room key to one person: HPKE (RFC 9180), single shot, base mode.

The one suite is ML-KEM-768 with X25519, HKDF-SHA256, AES-256-GCM: what is recorded today stays closed to a quantum
computer later. Its identifiers stand in every sealed key's header, so that another suite can be added beside it.
HPKE's base mode does not say who sealed; the signed record does, by committing to the key inside.

    sealed key = version 0x01 | KEM id, KDF id, AEAD id (2 bytes each, big endian) | enc (1120) | ciphertext

The key pair expands from 32 secret bytes as in X-Wing (draft-connolly-cfrg-xwing-kem): SHAKE-256 to 96 bytes, of
which 64 seed ML-KEM-768 (FIPS 203) and 32 are the X25519 key.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from unibus.errors import InvalidInput, SealedKeyInvalid

SUITE = "MLKEM768-X25519/HKDF-SHA256/AES-256-GCM"
PUBLIC_BYTES = 1184 + 32
SEALED_BYTES = 7 + 1120 + 32 + 16
_HEADER = bytes([1]) + bytes.fromhex("647a00010002")
_PROBE = X25519PrivateKey.from_private_bytes(bytes(32))
_SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A private sealing key and its public bytes (`PUBLIC_BYTES` long)."""

    public: bytes
    _key: MLKEM768X25519PrivateKey

    @classmethod
    def from_seed(cls, seed: bytes) -> "SealingKey":
        """From 32 secret bytes."""
        expanded = hashlib.shake_256(seed).digest(96)
        post_quantum = MLKEM768PrivateKey.from_seed_bytes(expanded[:64])
        classical = X25519PrivateKey.from_private_bytes(expanded[64:])
        public = post_quantum.public_key().public_bytes_raw() + classical.public_key().public_bytes_raw()
        return cls(public, MLKEM768X25519PrivateKey(post_quantum, classical))

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """The 32 bytes inside. Raises SealedKeyInvalid."""
        if len(sealed) != SEALED_BYTES or sealed[:7] != _HEADER:
            raise SealedKeyInvalid("this sealed key is of an unknown form or suite: a newer unibus may know it")
        try:
            return _SUITE.decrypt(sealed[7:], self._key, info)
        except (InvalidTag, ValueError) as error:
            raise SealedKeyInvalid from error

    def __repr__(self) -> str:
        return "SealingKey(…)"


@lru_cache(maxsize=4096)
def _public_key(public: bytes) -> MLKEM768X25519PublicKey:
    if len(public) != PUBLIC_BYTES:
        raise InvalidInput(f"a sealing key has {PUBLIC_BYTES} bytes")
    try:
        post_quantum = MLKEM768PublicKey.from_public_bytes(public[:1184])
        classical = X25519PublicKey.from_public_bytes(public[1184:])
        # A point of small order (RFC 7748 section 6.1) can be read and not be sealed to. Whoever has such a key in a
        # card could, once in a room, stop every later key from being sealed, also that of their own removal.
        _PROBE.exchange(classical)
        return MLKEM768X25519PublicKey(post_quantum, classical)
    except ValueError as error:
        raise InvalidInput("not a sealing key") from error


def check_public(public: bytes) -> bytes:
    """`public` if it is a usable public sealing key. Raises InvalidInput."""
    _public_key(public)
    return public


def seal(public: bytes, secret: bytes, info: bytes) -> bytes:
    """`secret` (32 bytes) sealed to the key `public`, bound to `info`. Raises InvalidInput for a bad key."""
    key = _public_key(public)
    try:
        return _HEADER + _SUITE.encrypt(secret, key, info)
    except ValueError as error:
        raise InvalidInput("this sealing key cannot be sealed to") from error
