"""Fingerprints: sixty digits that two people read to each other to know that they mean the same keys.

A fingerprint is the SHA-512 of both public keys, its first 60 bytes taken as twelve numbers of five bytes, big endian,
each modulo 100,000: the way of Signal's safety numbers, for one identity. About 199 bits, so that nobody finds a second
identity with the digits of a first. Must never depend on anything but the keys: not on the handle, nor on the bus.
"""

import hashlib

from unibus.crypto.encoding import transcript
from unibus.crypto.sealing import SUITE

LABEL = "unibus fingerprint v1"
GROUPS = 12


def fingerprint(user: str, sealing: bytes) -> tuple[str, ...]:
    """The twelve groups of five digits of the identity `user` (`U…`) with the public sealing key `sealing`."""
    digest = hashlib.sha512(transcript(LABEL, user, SUITE, sealing)).digest()
    chunks = (digest[at : at + 5] for at in range(0, 5 * GROUPS, 5))
    return tuple(f"{int.from_bytes(chunk, 'big') % 100_000:05}" for chunk in chunks)
