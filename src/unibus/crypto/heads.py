"""A log's head: the number and hash of its last record. What people compare to know that they see the same log."""

from dataclasses import dataclass
from hashlib import sha256

from unibus.crypto.encoding import b64u


@dataclass(frozen=True, slots=True)
class Head:
    """`sequence` counts a log's records from 1; `digest` is the SHA-256 of the last one's exact bytes."""

    sequence: int
    digest: bytes

    @property
    def hash(self) -> str:
        """The digest as base64url text."""
        return b64u(self.digest)


EMPTY = Head(0, bytes(32))


def digest(record: bytes) -> bytes:
    """The hash that the next record names as its previous."""
    return sha256(record).digest()
