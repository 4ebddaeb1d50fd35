"""The parts of one upload, made one after the other and again when one was cut.

Each is known by the hash of everything up to its end: so all is hashed once, and the last one's is the blob's id. Must
never give out a part for sending that differs from what was noted for its place. Blocks: call it in a thread.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from unibus.client.blob_resume import Notes
from unibus.client.blob_source import PART, Source, changed
from unibus.crypto.blobs import sealed_size
from unibus.crypto.encoding import b64u
from unibus.errors import InvalidInput

if TYPE_CHECKING:
    from hashlib import _Hash


AHEAD = 2
"""Parts that were sent and wait to be on the daemon's disk while one more is on its way."""


class Part(NamedTuple):
    """`sealed` bytes, and the SHA-256 in base64url of the blob `through` their end."""

    sealed: memoryview
    through: str


class Parts:
    """Of `source`, as far as `notes` tell and further. `size` is of all of them."""

    def __init__(self, source: Source, notes: Notes) -> None:
        self._source = source
        self._notes = notes
        self._hashes: dict[int, _Hash] = {0: sha256()}
        self.size = sealed_size(source.size)

    @property
    def noted(self) -> int:
        """How many parts may have been sent."""
        return len(self._notes.parts)

    @property
    def id(self) -> str | None:
        """The blob's id, once all parts are noted."""
        whole = self.noted == -(-self.size // PART)
        return b64u(self._notes.parts[-1]) if whole else None

    def whole(self) -> str:
        """The blob's id, also where the daemon had all of it before this process had noted it."""
        self._hash(-(-self.size // PART))
        return b64u(self._notes.parts[-1])

    def recall(self) -> bool:
        """Make all that is noted again; whether the source is still what gave it."""
        try:
            if self.noted > -(-self.size // PART):
                return False
            self._hash(self.noted)
        except InvalidInput:
            return False
        return True

    def make(self, number: int, into: memoryview) -> Part:
        """Make a part, which goes to the beginning of `into`. Raises InvalidInput when the source has changed."""
        hasher = self._hash(number).copy()
        sealed = into[: self._source.part(number, into, hasher)]
        digest = hasher.digest()
        if number == self.noted:
            self._notes.add(digest)
        elif digest != self._notes.parts[number]:
            raise changed()
        # The first is where everything can be made again from; the last are those of parts that may yet be cut.
        last = range(number - AHEAD - 1, number + 1)
        kept = {at: known for at, known in self._hashes.items() if at == 0 or at in last}
        self._hashes = kept | {number + 1: hasher}
        return Part(sealed, b64u(digest))

    def _hash(self, number: int) -> "_Hash":
        """The hash of all before that part, which is made again as far as it is not known."""
        known = max(at for at in self._hashes if at <= number)
        if known < number:
            into = memoryview(bytearray(PART))
            for earlier in range(known, number):
                self.make(earlier, into)
        return self._hashes[number]
