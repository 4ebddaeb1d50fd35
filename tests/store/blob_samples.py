"""What the tests of stores of blobs store: a small blob, a large one, and the steps that each of them takes."""

import os
from collections.abc import Awaitable, Callable, Collection
from contextlib import aclosing
from hashlib import sha256

from tests.support.parts import blocks
from unibus.crypto.encoding import b64u
from unibus.store.blob_port import BlobStore, Held, Place

OpenBlobs = Callable[[], Awaitable[BlobStore]]
Kept = Callable[[], Awaitable[Collection[str]]]

DATA = bytes(range(250)) * 12  # the same in every process that collects these tests
ID = b64u(sha256(DATA).digest())
PLACE = Place("room", ID, "ada")
NOTE = b"sealed manifest"
LARGE = os.urandom(5 * 2**20 + 7)
LARGE_PLACE = Place("room", b64u(sha256(LARGE).digest()), "ada")
MIB = 2**20


async def stored(store: BlobStore, place: Place = PLACE, data: bytes = DATA) -> Held:
    await store.begin(place, len(data))
    await store.receive(place, 0, blocks(data))
    return await store.finish(place, NOTE, 7)


async def read(store: BlobStore, start: int = 0, stop: int = len(DATA), place: Place = PLACE) -> bytes:
    async with aclosing(store.read(place.scope, place.blob, start, stop)) as found:
        return b"".join([block async for block in found])
