"""Blobs in the object store of one nats-server: under the port's specification, and what is theirs alone."""

import asyncio
import itertools
import secrets
import time
import tracemalloc
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import aclosing, suppress
from hashlib import sha256

import pytest

from tests.store.blob_conformance import BlobConformance
from tests.store.blob_samples import DATA, ID, LARGE, LARGE_PLACE, MIB, NOTE, PLACE, Kept, OpenBlobs, read, stored
from tests.store.blob_servers import Dial, DyingDial, Server, dialled, servers
from tests.support.parts import Stuck, blocks
from unibus.crypto.encoding import b64u
from unibus.errors import DigestMismatch, NotFound, StorageUnavailable, UploadConflict
from unibus.store.blob_objects import ObjectBlobs
from unibus.store.blob_objects_layout import Subjects
from unibus.store.blob_port import BlobStore, Place


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with servers(tmp_path_factory.mktemp("blobs"), 1) as (one,):
        yield one


@pytest.fixture
async def dial(server: Server) -> AsyncIterator[Dial]:
    async with dialled(server) as dial:
        yield dial


@pytest.fixture
async def bucket(dial: Dial) -> AsyncIterator[str]:
    name = f"blobs-{secrets.token_hex(4)}"
    yield name
    await dial.api(f"STREAM.DELETE.OBJ_{name}")


@pytest.fixture
def open_blobs(dial: Dial, bucket: str) -> OpenBlobs:
    async def open_blobs() -> BlobStore:
        return await ObjectBlobs.open(dial, replicas=1, clock=time.time, bucket=bucket)

    return open_blobs


@pytest.fixture
def kept(dial: Dial, bucket: str) -> Kept:
    async def kept() -> Collection[str]:
        info = await dial.api(f"STREAM.INFO.OBJ_{bucket}", {"subjects_filter": ">"})
        match info:
            case {"state": {"subjects": dict(subjects)}}:
                return [*subjects]
            case _:
                return []

    return kept


@pytest.fixture
async def store(open_blobs: OpenBlobs) -> BlobStore:
    return await open_blobs()


class TestObjects(BlobConformance):
    @pytest.fixture
    def open_blobs(self, open_blobs: OpenBlobs) -> OpenBlobs:
        return open_blobs

    @pytest.fixture
    def kept(self, kept: Kept, bucket: str) -> Kept:
        async def without_barrier() -> Collection[str]:
            return [name for name in await kept() if name != Subjects(bucket).barrier]

        return without_barrier


async def chunks_kept(kept: Kept) -> list[str]:
    return [name for name in await kept() if ".C." in name]


async def test_a_stock_client_lists_gets_and_deletes_blobs(store: BlobStore, dial: Dial, bucket: str) -> None:
    await store.begin(LARGE_PLACE, len(LARGE))
    await store.receive(LARGE_PLACE, 0, blocks(LARGE[: 3 * MIB]))
    await store.receive(LARGE_PLACE, 3 * MIB, blocks(LARGE[3 * MIB :]))
    await store.finish(LARGE_PLACE, NOTE, 7)
    await store.begin(PLACE, len(DATA))
    stock = await dial().jetstream().object_store(bucket)
    name = f"room/{LARGE_PLACE.blob}"
    (listed,) = await stock.list()
    assert (listed.name, listed.size, listed.bucket) == (name, len(LARGE), bucket)
    assert (await stock.get(name)).data == LARGE  # it checks the digest, too
    await stock.delete(name)
    assert await store.find("room", LARGE_PLACE.blob) is None
    held = await stored(store, LARGE_PLACE, LARGE)
    assert (await store.survey())[1] == [held]
    assert await read(store, 0, len(LARGE), LARGE_PLACE) == LARGE


async def test_objects_of_others_are_left_alone(store: BlobStore, dial: Dial, bucket: str) -> None:
    await store.survey()
    stock = await dial().jetstream().object_store(bucket)
    await stock.put("not a blob", b"theirs")
    held = await stored(store)
    assert await store.survey() == ([], [held])
    assert (await stock.get("not a blob")).data == b"theirs"


async def test_a_reader_leaves_no_consumer(store: BlobStore, dial: Dial, bucket: str) -> None:
    await stored(store, LARGE_PLACE, LARGE)
    async with aclosing(store.read("room", LARGE_PLACE.blob, 0, len(LARGE))) as found:
        await anext(found)
        match await dial.api(f"STREAM.INFO.OBJ_{bucket}"):
            case {"state": {"consumer_count": int(count)}}:
                assert count == 0
            case answer:
                pytest.fail(str(answer))


async def test_memory_does_not_grow_with_the_blob(store: BlobStore) -> None:
    block, count = bytes(64 * 1024), 640
    place = Place("room", b64u(sha256(block * count).digest()), "ada")

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(block)

    tracemalloc.start()
    try:
        await store.begin(place, len(block) * count)
        await store.receive(place, 0, endless())
        await store.finish(place, NOTE, 7)
        async with aclosing(store.read("room", place.blob, 0, len(block) * count)) as found:
            assert sum([len(piece) async for piece in found]) == len(block) * count
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


async def test_a_node_that_dies_at_any_step_leaves_an_upload_or_a_blob(
    store: BlobStore, dial: Dial, bucket: str, kept: Kept
) -> None:
    data, half = LARGE[:600_000], 300_000
    place, states = Place("room", b64u(sha256(data).digest()), "ada"), set()
    for uses in itertools.count(1):
        dying = DyingDial(dial, uses)
        node = await ObjectBlobs.open(dying, replicas=1, clock=time.time, bucket=bucket)
        with suppress(StorageUnavailable):
            await node.begin(place, len(data))
            await node.receive(place, 0, blocks(data[:half]))
            await node.receive(place, half, blocks(data[half:]))
            await node.finish(place, NOTE, 7)
            await node.remove("room", place.blob)
        uploads, blobs = await store.survey()
        states.add((len(uploads), len(blobs)))
        for upload in uploads:
            assert upload.received in {0, half, len(data)}
            await store.receive(place, upload.received, blocks(data[upload.received :]))
            await store.finish(place, NOTE, 7)
        if uploads or blobs:
            assert await read(store, 0, len(data), place) == data
            await store.remove("room", place.blob)
        assert await kept() == [Subjects(bucket).barrier]
        if dying.uses >= 0:
            break
    assert states == {(0, 0), (1, 0), (0, 1)}


async def test_a_node_that_dies_while_giving_up_leaves_what_the_survey_clears(
    store: BlobStore, dial: Dial, bucket: str, kept: Kept
) -> None:
    left = set()
    for uses in range(1, 7):
        if not (await store.begin(LARGE_PLACE, len(LARGE))).received:
            await store.receive(LARGE_PLACE, 0, blocks(LARGE[:MIB]))
        node = await ObjectBlobs.open(DyingDial(dial, uses), replicas=1, clock=time.time, bucket=bucket)
        with suppress(StorageUnavailable):
            await node.abandon(LARGE_PLACE)
        uploads, _ = await store.survey()
        left.add(len(uploads))
        if not uploads:
            assert await kept() == [Subjects(bucket).barrier]
    assert left == {0, 1}


async def test_an_upload_goes_on_through_another_node(open_blobs: OpenBlobs) -> None:
    one, other = await open_blobs(), await open_blobs()
    await one.begin(LARGE_PLACE, len(LARGE))
    await one.receive(LARGE_PLACE, 0, blocks(LARGE[:MIB]))
    await other.receive(LARGE_PLACE, MIB, blocks(LARGE[MIB : 3 * MIB]))
    await one.receive(LARGE_PLACE, 3 * MIB, blocks(LARGE[3 * MIB :]))
    await one.finish(LARGE_PLACE, NOTE, 7)
    assert await read(other, 0, len(LARGE), LARGE_PLACE) == LARGE


async def test_of_two_nodes_the_later_sender_goes_on(open_blobs: OpenBlobs) -> None:
    one, other = await open_blobs(), await open_blobs()
    await one.begin(LARGE_PLACE, len(LARGE))
    stuck = Stuck(LARGE[: 2 * MIB + 5], bytes(2 * MIB), after=bytes(MIB))
    first = asyncio.create_task(one.receive(LARGE_PLACE, 0, stuck.blocks()))
    await stuck.reached.wait()
    await other.receive(LARGE_PLACE, 0, blocks(LARGE[: 4 * MIB]))
    stuck.go_on.set()
    with pytest.raises(UploadConflict):
        await first
    await other.receive(LARGE_PLACE, 4 * MIB, blocks(LARGE[4 * MIB :]))
    await one.finish(LARGE_PLACE, NOTE, 7)
    assert await read(one, 0, len(LARGE), LARGE_PLACE) == LARGE


async def test_giving_up_and_ending_at_once_never_show_half_a_blob(open_blobs: OpenBlobs) -> None:
    one, other = await open_blobs(), await open_blobs()
    outcomes = set()
    for turn in range(40):
        await one.begin(PLACE, len(DATA))
        await one.receive(PLACE, 0, blocks(DATA))
        ending = asyncio.create_task(one.finish(PLACE, NOTE, 7))
        for _ in range(turn % 20):
            await asyncio.sleep(0)
        if turn == 39:
            await asyncio.wait([ending])
        dropped = await other.abandon(PLACE)
        ended = (await asyncio.gather(ending, return_exceptions=True))[0]
        outcomes.add(dropped)
        if dropped:
            assert isinstance(ended, NotFound | DigestMismatch)
            assert await one.find("room", ID) is None
        else:
            assert await one.find("room", ID) == ended
            assert await read(other) == DATA
            assert await one.remove("room", ID)
    assert outcomes == {True, False}


async def test_more_uploads_at_once_than_the_server_takes_batches(open_blobs: OpenBlobs) -> None:
    one, data = await open_blobs(), LARGE[:MIB]
    place = Place("room", b64u(sha256(data).digest()), "")
    await asyncio.gather(
        *(stored(one, place._replace(scope=f"room{number}", owner="ada"), data) for number in range(60))
    )
    assert len((await one.survey())[1]) == 60


async def test_of_two_who_remove_one_did(open_blobs: OpenBlobs) -> None:
    one, other = await open_blobs(), await open_blobs()
    held = await stored(one)
    removed = await asyncio.gather(one.remove("room", ID), other.remove("room", ID))
    assert sorted(removed, key=bool) == [None, held]


async def test_of_two_who_end_one_blob_the_first_is_it(open_blobs: OpenBlobs, kept: Kept) -> None:
    one, other = await open_blobs(), await open_blobs()
    places = [PLACE, Place("room", ID, "bob")]
    for node, place in zip((one, other), places, strict=True):
        await node.begin(place, len(DATA))
        await node.receive(place, 0, blocks(DATA))
    ended = await asyncio.gather(one.finish(places[0], NOTE, 7), other.finish(places[1], NOTE, 8))
    assert ended[0] == ended[1] == await one.find("room", ID)
    assert len(await chunks_kept(kept)) == 1
    assert await read(other) == DATA


@pytest.mark.parametrize("damage", ["a chunk is lost", "a chunk is added"])
async def test_an_upload_whose_chunks_changed_does_not_become_a_blob(
    store: BlobStore, open_blobs: OpenBlobs, dial: Dial, bucket: str, kept: Kept, damage: str
) -> None:
    await store.begin(LARGE_PLACE, len(LARGE))
    await store.receive(LARGE_PLACE, 0, blocks(LARGE))
    (chunks,) = await chunks_kept(kept)
    if damage == "a chunk is lost":
        await dial.api(f"STREAM.PURGE.OBJ_{bucket}", {"filter": chunks, "keep": 1})
    else:
        await dial().jetstream().publish(chunks, b"planted", headers={"Unibus-Offset": "0"})
    with pytest.raises(DigestMismatch):
        await store.finish(LARGE_PLACE, NOTE, 7)
    assert await kept() == []
    assert await (await open_blobs()).find("room", LARGE_PLACE.blob) is None


async def test_chunks_that_were_swapped_are_noticed_when_read_back(
    store: BlobStore, open_blobs: OpenBlobs, dial: Dial, bucket: str, kept: Kept
) -> None:
    await store.begin(PLACE, len(DATA))
    await store.receive(PLACE, 0, blocks(DATA))
    (chunks,) = await chunks_kept(kept)
    await dial.api(f"STREAM.PURGE.OBJ_{bucket}", {"filter": chunks})
    await dial().jetstream().publish(chunks, bytes(len(DATA)), headers={"Unibus-Offset": "0"})
    with pytest.raises(DigestMismatch):
        await (await open_blobs()).finish(PLACE, NOTE, 7)


async def test_a_blob_that_lost_chunks_says_so_and_gives_no_wrong_byte(
    store: BlobStore, dial: Dial, bucket: str, kept: Kept
) -> None:
    await stored(store, LARGE_PLACE, LARGE)
    (chunks,) = await chunks_kept(kept)
    await dial.api(f"STREAM.PURGE.OBJ_{bucket}", {"filter": chunks, "keep": 20})
    with pytest.raises(StorageUnavailable, match="a part of a blob is on no server"):
        await anext(store.read("room", LARGE_PLACE.blob, 0, len(LARGE)))
    assert await read(store, len(LARGE) - 5, len(LARGE), LARGE_PLACE) == LARGE[-5:]


@pytest.mark.parametrize("facts", [b"", b"[]", b'{"nuid": "*", "size": 1}', b'{"nuid": "x", "size": 3000}'])
async def test_damaged_facts_are_named(store: BlobStore, dial: Dial, bucket: str, facts: bytes) -> None:
    await store.begin(PLACE, len(DATA))
    for subject in (Subjects(bucket).upload(PLACE), Subjects(bucket).meta("room", ID)):
        await dial().jetstream().publish(subject, facts)
    for attempt in (store.upload(PLACE), store.find("room", ID), store.survey(), store.begin(PLACE, len(DATA))):
        with pytest.raises(StorageUnavailable, match="damaged"):
            await attempt


async def test_the_survey_clears_what_belongs_to_nothing(store: BlobStore, dial: Dial, bucket: str, kept: Kept) -> None:
    held = await stored(store)
    before = {*await kept(), Subjects(bucket).barrier}
    publish = dial().jetstream().publish
    await publish(Subjects(bucket).chunks("nobodys"), b"x")
    await publish(Subjects(bucket).listed("room", "nothing"), b"")
    assert await store.page("room", "", 10) == [held]
    assert await store.survey() == ([], [held])
    assert set(await kept()) == before


async def test_the_bucket_is_made_at_the_first_use_and_never_changed(dial: Dial, bucket: str) -> None:
    made = await ObjectBlobs.open(dial, replicas=1, clock=time.time, bucket=bucket)
    assert "error" in await dial.api(f"STREAM.INFO.OBJ_{bucket}")
    assert await made.find("room", ID) is None
    first = await dial.api(f"STREAM.INFO.OBJ_{bucket}")
    other = await ObjectBlobs.open(dial, replicas=3, clock=time.time, bucket=bucket)
    await stored(other)
    assert (await dial.api(f"STREAM.INFO.OBJ_{bucket}"))["config"] == first["config"]


async def test_more_replicas_than_servers_are_refused_by_name(dial: Dial, bucket: str) -> None:
    store = await ObjectBlobs.open(dial, replicas=3, clock=time.time, bucket=bucket)
    with pytest.raises(StorageUnavailable, match="replicas"):
        await store.begin(PLACE, 5)
