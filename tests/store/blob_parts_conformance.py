"""The half of `tests.store.blob_conformance` that is about how an upload grows: in parts, cut, doubled or early.

As there, nothing here may know an engine.
"""

import asyncio
from hashlib import sha256

import pytest

from tests.store.blob_samples import DATA, ID, LARGE, LARGE_PLACE, MIB, NOTE, PLACE, Kept, OpenBlobs, read
from tests.support.parts import Stuck, blocks
from unibus.crypto.encoding import b64u
from unibus.errors import DigestMismatch, NotFound, TooLarge, UploadConflict
from unibus.store.blob_port import BlobStore, Held


class BlobPartsConformance:
    """What a store of blobs promises of parts. Subclasses override `open_blobs` and `kept`; the rest stays as it is."""

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
