"""The hashes of what this process knows of unfinished uploads, so that nobody reads them back to end them.

Only a saving: what is not known is read from the cluster. Pure, and bounded: what rests longest is forgotten.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from unibus.store.blob_objects_layout import Announced
from unibus.store.blob_port import Place

if TYPE_CHECKING:
    from hashlib import _Hash

_MOST = 1024


class _Hashed(NamedTuple):
    nuid: str
    upto: int
    hasher: "_Hash"


class Hashes:
    """SHA-256 of the beginnings of uploads. What is given and taken is copied: nobody hashes on what is kept."""

    def __init__(self) -> None:
        self._kept: dict[Place, _Hashed] = {}

    def of(self, going: Announced) -> tuple[int, "_Hash"]:
        """How many bytes of the upload are hashed already, and the hash of those, to go on with."""
        found = self._kept.get(going.upload.place)
        if found is None or found.nuid != going.nuid or found.upto > going.upload.received:
            return 0, sha256()
        return found.upto, found.hasher.copy()

    def keep(self, going: Announced, upto: int, hasher: "_Hash") -> None:
        """Note the hash of the first `upto` bytes."""
        self.forget(going.upload.place)
        self._kept[going.upload.place] = _Hashed(going.nuid, upto, hasher.copy())
        if len(self._kept) > _MOST:
            del self._kept[next(iter(self._kept))]

    def forget(self, place: Place) -> None:
        """Forget an upload that has ended."""
        self._kept.pop(place, None)
