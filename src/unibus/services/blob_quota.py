"""How much each user, and the whole bus, keeps in blobs, and whether more is allowed. Pure; sizes are in bytes.

An upload counts in full from its beginning: two that begin at once cannot both have the last of the room.
"""

from collections import Counter
from dataclasses import dataclass

from unibus.errors import QuotaExceeded, TooLarge, UploadConflict
from unibus.store.blob_port import Place

OVERHEAD = 8192
"""Bytes that any blob counts beside its own, for its directory and facts: very many tiny ones are not free either."""


@dataclass(frozen=True, slots=True)
class BlobLimits:
    """The most bytes of one blob, of one user's blobs, and of all of them."""

    blob: int = 10 << 30
    user: int = 10 << 30
    total: int = 100 << 30


class Ledger:
    """What is kept, by place."""

    def __init__(self, limits: BlobLimits) -> None:
        self._limits = limits
        self._sizes: dict[Place, int] = {}
        self._by_owner: Counter[str] = Counter()
        self.total = 0

    def places(self) -> set[Place]:
        """What is counted."""
        return set(self._sizes)

    def note(self, place: Place, size: int) -> None:
        """Count what is there, whether allowed or not."""
        self.release(place)
        cost = size + OVERHEAD
        self._sizes[place] = cost
        self._by_owner[place.owner] += cost
        self.total += cost

    def reserve(self, place: Place, size: int) -> bool:
        """Count an upload that begins; False when it is counted already.

        Raises TooLarge, QuotaExceeded, UploadConflict for another size than it was begun with.
        """
        if size > self._limits.blob:
            raise TooLarge(f"a blob has at most {self._limits.blob} bytes here", limit=self._limits.blob)
        cost = size + OVERHEAD
        if place in self._sizes:
            if self._sizes[place] != cost:
                raise UploadConflict("this upload was begun with another size: give it up first", offset=0)
            return False
        if self._by_owner[place.owner] + cost > self._limits.user:
            left = max(0, self._limits.user - self._by_owner[place.owner])
            raise QuotaExceeded(f"you may store {left} bytes more in blobs: delete some of yours first", left=left)
        if self.total + cost > self._limits.total:
            raise QuotaExceeded("the bus may store no more blobs: delete some, or ask its operator for more room")
        self.note(place, size)
        return True

    def release(self, place: Place) -> None:
        """Count no longer. Safe to call twice."""
        cost = self._sizes.pop(place, 0)
        self.total -= cost
        self._by_owner[place.owner] -= cost
        if not self._by_owner[place.owner]:
            del self._by_owner[place.owner]
