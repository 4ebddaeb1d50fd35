"""One epoch's room key: its commitment, its sealing to members, and its link to the epoch before.

All three bind bus, room and epoch, so that nothing made for one place opens in another. The commitment stands in the
signed record: whoever opens a sealed key knows that it is the key which the record's signer meant, the same for all.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from unibus.crypto.encoding import transcript
from unibus.crypto.identity import Identity
from unibus.crypto.sealing import seal
from unibus.errors import SealedKeyInvalid

KEY_BYTES = 32
_ONCE = bytes(12)  # the nonce of a key that encrypts one thing only


@dataclass(frozen=True, slots=True)
class EpochRef:
    """Which epoch of which room on which bus a key belongs to."""

    bus: str
    room: str
    number: int

    def bind(self, label: str, *more: str) -> bytes:
        """`label` and this epoch as bytes, see `encoding.transcript`."""
        return transcript(label, self.bus, self.room, self.number, *more)


def commitment(key: bytes, epoch: EpochRef) -> bytes:
    """32 bytes that fix `key` without telling it: HMAC-SHA-256 (RFC 2104) under the key."""
    return hmac.digest(key, epoch.bind("unibus epoch commitment v1"), "sha256")


def seal_to(key: bytes, epoch: EpochRef, user: str, public: bytes) -> bytes:
    """`key` sealed to `user`'s public sealing key."""
    return seal(public, key, epoch.bind("unibus sealed key v1", user))


def open_sealed(identity: Identity, sealed: bytes, epoch: EpochRef, committed: bytes) -> bytes:
    """The room key, if it is the one that the record committed to. Raises SealedKeyInvalid."""
    key = identity.sealing.open(sealed, epoch.bind("unibus sealed key v1", identity.user))
    if not hmac.compare_digest(commitment(key, epoch), committed):
        raise SealedKeyInvalid(f"the sealed key of epoch {epoch.number} opens to another key than the record says")
    return key


def link(key: bytes, epoch: EpochRef, previous: bytes) -> bytes:
    """The previous epoch's key, encrypted so that whoever has `key` can read what came before."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(_link_key(key, epoch)).encrypt(_ONCE, previous, None)


def follow_link(key: bytes, epoch: EpochRef, linked: bytes, committed: bytes) -> bytes:
    """The key of the epoch before `epoch`, checked against its own commitment. Raises SealedKeyInvalid."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    before = EpochRef(epoch.bus, epoch.room, epoch.number - 1)
    try:
        previous = AESGCM(_link_key(key, epoch)).decrypt(_ONCE, linked, None)
    except (InvalidTag, ValueError) as error:
        raise SealedKeyInvalid(f"the link from epoch {epoch.number} to the one before does not open") from error
    if not hmac.compare_digest(commitment(previous, before), committed):
        raise SealedKeyInvalid(f"the link from epoch {epoch.number} leads to another key than the record says")
    return previous


def _link_key(key: bytes, epoch: EpochRef) -> bytes:
    return hmac.digest(key, epoch.bind("unibus previous epoch v1"), "sha256")


def sealed_digest(sealed: Mapping[str, bytes]) -> bytes:
    """One hash over a record's whole set of sealed keys, by recipient: nothing can be left out or added later."""
    parts = [part for user in sorted(sealed) for part in (user, sha256(sealed[user]).digest())]
    return sha256(transcript("unibus sealed keys v1", *parts)).digest()
