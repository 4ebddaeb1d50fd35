"""The specification of `unibus.store.blob_port.BlobStore`, as tests that every engine passes unchanged.

An engine is put under it by a subclass that overrides two fixtures, `open_blobs` and `kept`. Nothing here may know an
engine, reach below the port, or be relaxed for one of them.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.parts import Stuck, blocks
from unibus.crypto.encoding import b64u
from unibus.errors import DigestMismatch, InvalidInput, NotFound, StorageUnavailable, TooLarge, UploadConflict
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


class BlobConformance:
    """All that a store of blobs promises. Subclasses override `open_blobs` and `kept`; the rest stays as it is."""

    @pytest.fixture
    def open_blobs(self) -> OpenBlobs:
        """Opens one more store on this test's data, the first on none, as a process of its own would."""
        raise NotImplementedError

    @pytest.fixture
    def kept(self) -> Kept:
        """Names whatever the engine keeps for uploads and blobs, so that the tests see when nothing is left."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, open_blobs: OpenBlobs) -> BlobStore:
        return await open_blobs()

    async def test_an_upload_becomes_a_blob(self, store: BlobStore) -> None:
        await store.begin(PLACE, len(DATA))
        assert (await store.receive(PLACE, 0, blocks(DATA[:10], DATA[10:1000]))).received == 1000
        assert await store.find("room", ID) is None
        assert (await store.receive(PLACE, 1000, blocks(DATA[1000:]))).received == 3000
        assert await store.find("room", ID) is None
        with pytest.raises(NotFound):
            await read(store)
        held = await store.finish(PLACE, NOTE, 7)
        assert held == Held(PLACE, 3000, NOTE, 7) == await store.find("room", ID)
        assert await read(store) == DATA
        assert await read(store, 5, 9) == DATA[5:9]
        assert await store.page("room", ID, 10) == await store.page("elsewhere", "", 10) == []
        assert await store.page("room", "", 10) == [held]
        assert await store.upload(PLACE) is None

    async def test_parts_are_known_by_the_hash_of_all_up_to_their_end(
        self, store: BlobStore, open_blobs: OpenBlobs
    ) -> None:
        through = [b64u(sha256(DATA[:end]).digest()) for end in (1000, 2000, 3000)]
        await store.begin(PLACE, len(DATA))
        assert (await store.receive(PLACE, 0, blocks(DATA[:400], DATA[400:1000]), through[0])).received == 1000
        for data, said in ((DATA[1:1001], through[1]), (DATA[1000:2000], through[0]), (DATA[1000:1999], through[1])):
            with pytest.raises(DigestMismatch):
                await store.receive(PLACE, 1000, blocks(data), said)
            assert await store.upload(PLACE) == await (await open_blobs()).upload(PLACE)
        # Another process has to read what is there to know the hash so far.
        again = await open_blobs()
        assert (await again.receive(PLACE, 1000, blocks(DATA[1000:2000]), through[1])).received == 2000
        assert (await again.receive(PLACE, 2000, blocks(DATA[2000:]), through[2])).received == 3000
        await again.finish(PLACE, NOTE, 7)
        assert await read(again) == DATA

    async def test_an_upload_by_another_name_becomes_the_blob_that_it_is(self, store: BlobStore, kept: Kept) -> None:
        name, held = PLACE._replace(blob=b64u(bytes(32))), Held(PLACE, 3000, NOTE, 7)
        await store.begin(name, len(DATA))
        await store.receive(name, 0, blocks(DATA))
        assert await store.finish(name, NOTE, 7, ID) == held == await store.find("room", ID)
        assert await store.find("room", name.blob) is None
        assert await store.upload(name) is None
        assert await read(store) == DATA
        # The same bytes once more, under a third name: the first stays, and nothing is left of what came.
        before = await kept()
        await store.begin(name, len(DATA))
        await store.receive(name, 0, blocks(DATA))
        assert await store.finish(name, b"another note", 9, ID) == held
        assert await kept() == before

    async def test_an_upload_by_another_name_is_no_other_blob(self, store: BlobStore, kept: Kept) -> None:
        name, before = PLACE._replace(blob=b64u(bytes(32))), await kept()
        for wanted in (LARGE_PLACE.blob, None):
            await store.begin(name, len(DATA))
            await store.receive(name, 0, blocks(DATA))
            with pytest.raises(DigestMismatch):
                await store.finish(name, NOTE, 7, wanted)
            assert await kept() == before
        await store.begin(name, len(DATA))
        await store.receive(name, 0, blocks(DATA))
        with pytest.raises((DigestMismatch, InvalidInput)):
            await store.finish(name, NOTE, 7, "../" + ID)

    async def test_an_empty_blob_is_one(self, store: BlobStore) -> None:
        place = Place("room", b64u(sha256(b"").digest()), "ada")
        await store.begin(place, 0)
        held = await store.finish(place, NOTE, 7)
        assert held == Held(place, 0, NOTE, 7) == await store.find("room", place.blob)
        assert await read(store, 0, 0, place) == b""

    async def test_any_range_of_a_large_blob_is_read(self, store: BlobStore) -> None:
        await store.begin(LARGE_PLACE, len(LARGE))
        cuts = [0, 1, 2 * MIB + 5, 2 * MIB + 6, 3 * MIB, len(LARGE)]
        for start, stop in pairwise(cuts):
            pieces = (LARGE[at : min(at + 65_537, stop)] for at in range(start, stop, 65_537))
            assert (await store.receive(LARGE_PLACE, start, blocks(*pieces))).received == stop
        await store.finish(LARGE_PLACE, NOTE, 7)
        edges = [0, 1, 131_071, 131_072, 131_073, 2 * MIB + 4, 2 * MIB + 5, 2 * MIB + 6, 4 * MIB, len(LARGE) - 3]
        for start in edges:
            assert await read(store, start, start + 3, LARGE_PLACE) == LARGE[start : start + 3]
        assert await read(store, MIB + 1, 4 * MIB, LARGE_PLACE) == LARGE[MIB + 1 : 4 * MIB]
        assert await read(store, 0, len(LARGE), LARGE_PLACE) == LARGE

    async def test_pages_follow_each_other(self, store: BlobStore) -> None:
        contents = [bytes([number]) * 9 for number in range(7)]
        places = [Place("room", b64u(sha256(data).digest()), "ada") for data in contents]
        for place, data in zip(places, contents, strict=True):
            await stored(store, place, data)
        await stored(store, Place("roo", places[0].blob, "ada"), contents[0])
        ids, after, seen = sorted(place.blob for place in places), "", []
        while page := await store.page("room", after, 3):
            assert len(page) <= 3
            seen += [held.place.blob for held in page]
            after = seen[-1]
        assert seen == ids

    async def test_a_blob_is_removed_whole(self, store: BlobStore, kept: Kept) -> None:
        held = await stored(store)
        assert await store.remove("room", ID) == held
        assert await store.remove("room", ID) is None
        assert await store.find("room", ID) is None
        assert not await kept()
        with pytest.raises(NotFound):
            await read(store)
        assert await stored(store) == held
        assert await read(store) == DATA

    async def test_who_reads_a_blob_that_is_removed_gets_no_wrong_byte(self, store: BlobStore) -> None:
        await stored(store, LARGE_PLACE, LARGE)
        got = b""
        async with aclosing(store.read("room", LARGE_PLACE.blob, 0, len(LARGE))) as found:
            try:
                async for block in found:
                    got += block
                    await store.remove("room", LARGE_PLACE.blob)
            except NotFound:
                assert got == LARGE[: len(got)]
            else:
                assert got == LARGE

    async def test_who_stops_reading_hinders_nobody(self, store: BlobStore) -> None:
        await stored(store, LARGE_PLACE, LARGE)
        for _ in range(5):
            async with aclosing(store.read("room", LARGE_PLACE.blob, 0, len(LARGE))) as found:
                assert LARGE.startswith(await anext(found))
        assert await read(store, 0, len(LARGE), LARGE_PLACE) == LARGE

    @pytest.mark.parametrize("error", [ConnectionError(), asyncio.CancelledError(), UploadConflict()], ids=repr)
    async def test_a_part_that_ends_in_an_error_does_not_count(self, store: BlobStore, error: Exception) -> None:
        await store.begin(PLACE, len(DATA))
        await store.receive(PLACE, 0, blocks(DATA[:1000]))
        with pytest.raises(type(error)):
            await store.receive(PLACE, 1000, blocks(b"other bytes" * 100, error=error))
        upload = await store.upload(PLACE)
        assert upload is not None
        assert upload.received == 1000
        await store.receive(PLACE, 1000, blocks(DATA[1000:]))
        assert (await store.finish(PLACE, NOTE, 7)).size == 3000
        assert await read(store) == DATA

    async def test_a_large_part_that_was_cut_leaves_no_byte(self, store: BlobStore, open_blobs: OpenBlobs) -> None:
        await store.begin(LARGE_PLACE, len(LARGE))
        await store.receive(LARGE_PLACE, 0, blocks(LARGE[:1000]))
        for count in (1, 3):
            with pytest.raises(ConnectionError):
                await store.receive(LARGE_PLACE, 1000, blocks(*[b"wrong" * 300_000] * count, error=ConnectionError()))
        again = await open_blobs()
        assert (await again.begin(LARGE_PLACE, len(LARGE))).received == 1000
        await again.receive(LARGE_PLACE, 1000, blocks(LARGE[1000:]))
        await again.finish(LARGE_PLACE, NOTE, 7)
        assert await read(again, 0, len(LARGE), LARGE_PLACE) == LARGE

    @pytest.mark.parametrize("offset", [0, 999, 1001, 3000, 2**60])
    async def test_parts_neither_overlap_nor_leave_gaps(self, store: BlobStore, offset: int) -> None:
        await store.begin(PLACE, len(DATA))
        await store.receive(PLACE, 0, blocks(DATA[:1000]))
        with pytest.raises(UploadConflict) as refused:
            await store.receive(PLACE, offset, blocks(DATA[1000:]))
        assert refused.value.extra == {"offset": 1000}

    async def test_no_part_goes_beyond_the_end(self, store: BlobStore) -> None:
        await store.begin(PLACE, len(DATA))
        with pytest.raises(TooLarge):
            await store.receive(PLACE, 0, blocks(DATA, b"x"))
        await store.receive(PLACE, 0, blocks(DATA))
        await store.finish(PLACE, NOTE, 7)
        assert await read(store) == DATA

    async def test_of_two_senders_the_later_goes_on(self, store: BlobStore) -> None:
        await store.begin(PLACE, len(DATA))
        stuck = Stuck(b"stale" * 100, after=b"stale" * 100)
        first = asyncio.create_task(store.receive(PLACE, 0, stuck.blocks()))
        await stuck.reached.wait()
        await store.receive(PLACE, 0, blocks(DATA))
        stuck.go_on.set()
        with pytest.raises(UploadConflict):
            await first
        await store.finish(PLACE, NOTE, 7)
        assert await read(store) == DATA

    async def test_of_many_at_once_one_counts(self, store: BlobStore) -> None:
        await store.begin(PLACE, len(DATA))
        parts = (store.receive(PLACE, 0, blocks(DATA[:1000])) for _ in range(10))
        outcomes = await asyncio.gather(*parts, return_exceptions=True)
        assert sum(not isinstance(outcome, UploadConflict) for outcome in outcomes) == 1
        await store.receive(PLACE, 1000, blocks(DATA[1000:]))
        await store.finish(PLACE, NOTE, 7)
        assert await read(store) == DATA

    async def test_parts_that_come_too_early_wait_for_those_before_them(
        self, store: BlobStore, open_blobs: OpenBlobs
    ) -> None:
        await store.begin(PLACE, len(DATA))
        stuck = Stuck(DATA[:500], after=DATA[500:1000])
        first = asyncio.create_task(store.receive(PLACE, 0, stuck.blocks()))
        await stuck.reached.wait()
        last = asyncio.create_task(store.receive(PLACE, 2000, blocks(DATA[2000:]), ID))
        through = b64u(sha256(DATA[:2000]).digest())
        second = asyncio.create_task(store.receive(PLACE, 1000, blocks(DATA[1000:2000]), through))
        done, _ = await asyncio.wait({second, last}, timeout=0.1)
        assert not done
        stuck.go_on.set()
        assert [(await part).received for part in (first, second, last)] == [1000, 2000, 3000]
        again = await open_blobs()
        assert await again.finish(PLACE, NOTE, 7) == Held(PLACE, 3000, NOTE, 7)
        assert await read(again) == DATA

    async def test_a_part_that_waited_for_one_that_failed_does_not_count(self, store: BlobStore) -> None:
        await store.begin(PLACE, len(DATA))
        stuck = Stuck(DATA[:500], error=ConnectionError())
        first = asyncio.create_task(store.receive(PLACE, 0, stuck.blocks()))
        await stuck.reached.wait()
        second = asyncio.create_task(store.receive(PLACE, 1000, blocks(DATA[1000:])))
        await asyncio.wait({second}, timeout=0.1)
        stuck.go_on.set()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ConnectionError, UploadConflict]
        assert (await store.begin(PLACE, len(DATA))).received == 0
        await store.receive(PLACE, 0, blocks(DATA))
        await store.finish(PLACE, NOTE, 7)
        assert await read(store) == DATA

    async def test_nobody_waits_for_a_sender_that_was_overtaken(self, store: BlobStore) -> None:
        await store.begin(PLACE, len(DATA))
        stuck = Stuck(DATA[:500])
        lost = asyncio.create_task(store.receive(PLACE, 0, stuck.blocks()))
        await stuck.reached.wait()
        early = asyncio.create_task(store.receive(PLACE, 1000, blocks(DATA[1000:])))
        await asyncio.wait({early}, timeout=0.1)
        assert (await store.receive(PLACE, 0, blocks(DATA[:1000]))).received == 1000
        assert (await early).received == 3000
        stuck.go_on.set()
        with pytest.raises(UploadConflict):
            await lost
        await store.finish(PLACE, NOTE, 7)
        assert await read(store) == DATA

    async def test_a_part_that_waits_gets_into_no_other_upload(self, store: BlobStore) -> None:
        await store.begin(PLACE, len(DATA))
        stuck = Stuck(b"stale" * 100, after=b"stale" * 100)
        first = asyncio.create_task(store.receive(PLACE, 0, stuck.blocks()))
        await stuck.reached.wait()
        second = asyncio.create_task(store.receive(PLACE, 1000, blocks(b"stale" * 400)))
        await asyncio.wait({second}, timeout=0.1)
        assert await store.abandon(PLACE)
        await store.begin(PLACE, len(DATA))
        stuck.go_on.set()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert all(isinstance(outcome, UploadConflict | NotFound) for outcome in outcomes)
        await store.receive(PLACE, 0, blocks(DATA))
        await store.finish(PLACE, NOTE, 7)
        assert await read(store) == DATA

    async def test_bytes_of_another_hash_leave_nothing(self, store: BlobStore, kept: Kept) -> None:
        await store.begin(PLACE, len(DATA))
        await store.receive(PLACE, 0, blocks(DATA[:-1] + b"?"))
        with pytest.raises(DigestMismatch):
            await store.finish(PLACE, NOTE, 7)
        assert not await kept()
        with pytest.raises(NotFound):
            await store.finish(PLACE, NOTE, 7)

    async def test_an_upload_that_is_not_whole_is_no_blob(self, store: BlobStore) -> None:
        await store.begin(PLACE, len(DATA))
        await store.receive(PLACE, 0, blocks(DATA[:1000]))
        with pytest.raises(UploadConflict) as refused:
            await store.finish(PLACE, NOTE, 7)
        assert refused.value.extra == {"offset": 1000}
        assert await store.find("room", ID) is None

    async def test_what_was_never_begun_is_not_there(self, store: BlobStore) -> None:
        assert await store.upload(PLACE) is None
        assert not await store.abandon(PLACE)
        with pytest.raises(NotFound):
            await store.receive(PLACE, 0, blocks(DATA))
        with pytest.raises(NotFound):
            await store.finish(PLACE, NOTE, 7)

    async def test_the_first_of_two_uploads_of_one_blob_stays(self, store: BlobStore) -> None:
        other = Place("room", ID, "bob")
        await store.begin(other, len(DATA))
        await store.receive(other, 0, blocks(DATA))
        first = await stored(store)
        assert await store.finish(other, b"another", 8) == first == await store.find("room", ID)
        assert await store.upload(other) is None
        assert await store.survey() == ([], [first])

    async def test_begun_again_it_goes_on_and_never_as_something_else(self, store: BlobStore) -> None:
        await store.begin(PLACE, len(DATA))
        await store.receive(PLACE, 0, blocks(DATA[:1000]))
        assert (await store.begin(PLACE, len(DATA))).received == 1000
        with pytest.raises(UploadConflict):
            await store.begin(PLACE, len(DATA) + 1)
        assert await store.abandon(PLACE)
        assert not await store.abandon(PLACE)
        assert (await store.begin(PLACE, len(DATA) + 1)).received == 0

    async def test_who_gives_up_while_sending_leaves_nothing(self, store: BlobStore, kept: Kept) -> None:
        await store.begin(LARGE_PLACE, len(LARGE))
        stuck = Stuck(LARGE[: 3 * MIB], after=LARGE[3 * MIB :])
        sending = asyncio.create_task(store.receive(LARGE_PLACE, 0, stuck.blocks()))
        await stuck.reached.wait()
        assert await store.abandon(LARGE_PLACE)
        stuck.go_on.set()
        with pytest.raises((UploadConflict, NotFound)):
            await sending
        assert await store.upload(LARGE_PLACE) is None
        assert await store.survey() == ([], [])
        assert not await kept()

    async def test_a_restart_forgets_no_part(self, store: BlobStore, open_blobs: OpenBlobs) -> None:
        await store.begin(PLACE, len(DATA))
        await store.receive(PLACE, 0, blocks(DATA[:1000]))
        with pytest.raises(ConnectionError):
            await store.receive(PLACE, 1000, blocks(b"half a part", error=ConnectionError()))
        again = await open_blobs()
        assert (await again.begin(PLACE, len(DATA))).received == 1000
        await again.receive(PLACE, 1000, blocks(DATA[1000:]))
        third = await open_blobs()
        assert await third.finish(PLACE, NOTE, 7) == Held(PLACE, 3000, NOTE, 7)
        assert await read(third) == DATA

    async def test_the_survey_sees_everything(self, store: BlobStore) -> None:
        held = await stored(store)
        await store.begin(Place("room", ID, "bob"), 5)
        uploads, blobs = await store.survey()
        assert list(blobs) == [held]
        assert [(upload.place.owner, upload.size, upload.received) for upload in uploads] == [("bob", 5, 0)]

    async def test_a_snapshot_keeps_what_is_removed_afterwards(self, store: BlobStore, tmp_path: Path) -> None:
        small, large = await stored(store), await stored(store, LARGE_PLACE, LARGE)
        await store.begin(Place("room", ID, "bob"), len(DATA))
        target = tmp_path / "kept"
        seen = {held async for held in store.snapshot(target)}
        assert seen == {small, large}
        await store.remove("room", ID)
        with pytest.raises(StorageUnavailable):
            await anext(store.snapshot(target))  # it has to be a new one
        contents = {path.name: path.read_bytes() for path in target.iterdir()}
        assert contents == {f"room.{ID}": DATA, f"room.{LARGE_PLACE.blob}": LARGE}

    @pytest.mark.parametrize(
        "parts",
        [
            ("..", ID),
            ("room", ".."),
            ("room/../x", ID),
            ("", ID),
            ("room", ""),
            ("room", "a\0b"),
            ("é", ID),
            ("*", ID),
            ("room", ">"),
            ("a.b", ID),
            ("room", "a b\r\n"),
        ],
        ids=ascii,
    )
    async def test_no_place_leads_elsewhere(self, store: BlobStore, kept: Kept, parts: Sequence[str]) -> None:
        scope, blob = parts
        for place in (Place(scope, blob, "ada"), Place("room", ID, blob if scope == "room" else scope)):
            for attempt in (store.begin(place, 5), store.upload(place), store.abandon(place)):
                with pytest.raises(InvalidInput):
                    await attempt
        for look in (store.find(scope, blob), store.remove(scope, blob), anext(store.read(scope, blob, 0, 1))):
            with pytest.raises(InvalidInput):
                await look
        assert not await kept()
