"""The specification of `unibus.store.blob_port.BlobStore`, as tests that every engine passes unchanged.

An engine is put under it by a subclass that overrides two fixtures, `open_blobs` and `kept`. Nothing here may know an
engine, reach below the port, or be relaxed for one of them.
"""

from collections.abc import Sequence
from contextlib import aclosing
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from tests.store.blob_parts_conformance import BlobPartsConformance
from tests.store.blob_samples import DATA, ID, LARGE, LARGE_PLACE, MIB, NOTE, PLACE, Kept, read, stored
from tests.support.parts import blocks
from unibus.crypto.encoding import b64u
from unibus.errors import DigestMismatch, InvalidInput, NotFound, StorageUnavailable, UploadConflict
from unibus.store.blob_port import BlobStore, Held, Place


class BlobConformance(BlobPartsConformance):
    """All that a store of blobs promises. Subclasses override `open_blobs` and `kept`; the rest stays as it is."""

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
