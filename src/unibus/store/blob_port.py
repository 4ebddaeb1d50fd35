"""The port of what keeps blobs: bytes named by their hash, within a scope, with a note that somebody else reads.

A blob store never knows rooms, users or keys. An upload belongs to one owner and is seen by nobody else; only when
all its bytes are there, have the hash that they were announced under and are on disk does it become a blob, in one
step.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from unibus.errors import InvalidInput

GONE = "there is no such upload of yours: begin it again"
MIXED_UP = "what came is not the part that was signed: send it again"
"""Words that every engine refuses with alike."""
_PART = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_part(text: str) -> bool:
    """Whether `text` can be part of a place: nothing in it means anything to a file system or in a NATS subject."""
    return _PART.fullmatch(text) is not None


def check_parts(*parts: str) -> tuple[str, ...]:
    """`parts` if each can be part of a place; no engine builds a name from others. Raises InvalidInput."""
    if not all(map(is_part, parts)):
        raise InvalidInput("a blob's place is made of letters, digits, - and _ only")
    return parts


class Place(NamedTuple):
    """Where an upload or a blob is: the scope, the blob's id (base64url of its SHA-256), and who owns it.

    An upload whose id is not known yet goes by another name of that form instead.
    """

    scope: str
    blob: str
    owner: str


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload: `received` of `size` bytes are there for good. `touched` is when it last grew, in Unix seconds."""

    place: Place
    size: int
    received: int
    touched: float


@dataclass(frozen=True, slots=True)
class Held:
    """A whole blob. `note` is what its owner left with it; `stored_at` is in Unix seconds."""

    place: Place
    size: int
    note: bytes
    stored_at: int


class BlobStore(Protocol):
    """Uploads and blobs. All methods raise StorageUnavailable when the disk does not serve.

    An upload that the disk refused to take more of is dropped before that is said: a full disk keeps nothing of it.
    """

    async def begin(self, place: Place, size: int) -> Upload:
        """Begin an upload of `size` bytes or find it again. Raises UploadConflict if it was begun with another size."""

    async def upload(self, place: Place) -> Upload | None:
        """The upload, or None."""

    async def receive(
        self, place: Place, offset: int, blocks: AsyncIterator[bytes], through: str | None = None
    ) -> Upload:
        """Take the next bytes. They count when `blocks` has ended without an error, else it is as if none had come.

        `through` is what the SHA-256 (base64url) of the upload from its beginning through these bytes must be; else
        they do not count either, and it is DigestMismatch. Of two at once from one `offset` the later goes on and the
        earlier ends; one from a later `offset` waits for what begins before it to come. Raises NotFound without an
        upload, UploadConflict (with the right `offset`) for any other offset than where it ended, TooLarge beyond its
        size.
        """

    async def finish(self, place: Place, note: bytes, stored_at: int, blob: str | None = None) -> Held:
        """Make the upload the blob with the id `blob`, its place's by default, durably, and return it.

        If there is one of that id, that one is returned, and the upload is gone.

        Raises NotFound without an upload, UploadConflict when bytes are missing, DigestMismatch when they are not those
        of the id; the upload is gone then.
        """

    async def abandon(self, place: Place) -> bool:
        """Drop an upload; whether there was one."""

    async def find(self, scope: str, blob: str) -> Held | None:
        """The blob, or None."""

    async def page(self, scope: str, after: str, limit: int) -> list[Held]:
        """Up to `limit` blobs of a scope whose ids sort after `after`, sorted."""

    def read(self, scope: str, blob: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The blob's bytes from `start` up to, and without, `stop`, in blocks. Raises NotFound.

        Who reads while the blob is removed gets the right bytes to the end or, from some block on, NotFound.
        """

    def snapshot(self, target: Path) -> AsyncGenerator[Held, None]:
        """All blobs, one after the other, each kept as the file `target/<scope>.<blob>`, whatever happens to it later.

        `target` is a new directory. Blobs in files are kept by a second name, for which it has to be on their file
        system; any other engine copies the bytes and needs that much disk. A blob that is removed meanwhile may be left
        out.
        """

    async def remove(self, scope: str, blob: str) -> Held | None:
        """Remove a blob; what was removed, or None."""

    async def survey(self) -> tuple[Collection[Upload], Collection[Held]]:
        """All that is there. Also clears away what a crash left of what was being removed."""
