"""How blobs lie in the object store: where a chunk is looked for, how parts are cut, and what is no part of a place."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unibus.crypto.encoding import b64u
from unibus.errors import InvalidInput, StorageUnavailable, TooLarge
from unibus.store.blob_objects_layout import (
    BATCH,
    CHUNK,
    OFFSET,
    Announced,
    Marks,
    State,
    Stored,
    Subjects,
    batches,
    chunks_of,
    marked,
    place_named,
    read_announced,
    read_stored,
    sequence_before,
)
from unibus.store.blob_objects_reading import following
from unibus.store.blob_objects_wire import Message
from unibus.store.blob_port import Held, Place, Upload

NAMES = Subjects("blobs")
PLACE = Place("room", b64u(sha256(b"").digest()), "UADA")


@given(st.lists(st.tuples(st.integers(1, 3 * CHUNK), st.integers(0, 5)), min_size=1, max_size=30), st.data())
def test_a_chunk_is_never_looked_for_after_it(parts: list[tuple[int, int]], data: st.DataObject) -> None:
    """However parts are cut and whatever others write between them."""
    size = sum(length for length, _ in parts)
    marks: Marks = ()
    chunks: list[tuple[int, int]] = []
    offset = sequence = 0
    for length, others in parts:
        sequence += others
        marks = marked(marks, offset, sequence + 1, size)
        for at in range(0, length, CHUNK):
            sequence += 1
            chunks.append((offset + at, sequence))
        offset += length
    wanted = data.draw(st.integers(0, size - 1))
    holding = max(sequence for begins, sequence in chunks if begins <= wanted)
    assert 1 <= sequence_before(marks, wanted) <= holding


def test_the_largest_blob_has_few_marks() -> None:
    size, part = 10 << 30, 8 << 20
    marks: Marks = ()
    for number in range(size // part):
        marks = marked(marks, number * part, number * 64 + 1, size)
    assert 128 <= len(marks) <= 256


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(0, 2000))
async def test_parts_are_cut_anew_without_losing_a_byte(pieces: list[bytes], times: int) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece * times

    whole = b"".join(piece * times for piece in pieces)
    cut = [batch async for batch in batches(blocks(), len(whole))]
    assert b"".join(cut) == whole
    assert all(len(batch) == BATCH for batch in cut[:-1])
    if whole:
        with pytest.raises(TooLarge):
            [batch async for batch in batches(blocks(), len(whole) - 1)]


def test_the_first_chunk_of_a_batch_guards_it() -> None:
    first, *rest = chunks_of(bytes(2 * CHUNK + 1), 1000, "chunks", "upload", 7)
    assert first.headers == {
        "Nats-Expected-Last-Subject-Sequence": "7",
        "Nats-Expected-Last-Subject-Sequence-Subject": "upload",
        OFFSET: "1000",
    }
    assert [(len(write.data), write.headers) for write in rest] == [
        (CHUNK, {OFFSET: str(1000 + CHUNK)}),
        (1, {OFFSET: str(1000 + 2 * CHUNK)}),
    ]


def chunk(offset: int, data: bytes) -> Message:
    return Message("chunks", 1, data, {OFFSET: str(offset)})


def test_only_what_follows_is_given_out() -> None:
    found = [chunk(0, b"abc"), chunk(3, b"def"), chunk(3, b"XYZ"), chunk(7, b"after a gap")]
    assert list(following(found, 1, 99)) == [b"bc", b"def"]
    assert list(following(found, 1, 4)) == [b"bc", b"d"]
    assert list(following(found[1:], 1, 4)) == []
    with pytest.raises(StorageUnavailable):
        list(following([Message("chunks", 1, b"x", {})], 0, 1))


def test_what_is_written_is_read_again() -> None:
    announced = Announced(Upload(PLACE, 9, 4, 1.5), "nuid", State.TAKING, 2, 77, ((0, 70), (2, 76)))
    assert read_announced(NAMES.upload(PLACE), announced.encode()) == announced
    stored = Stored(Held(PLACE, 9, b"note", 1_700_000_000), "nuid", 2, ((0, 70),))
    assert read_stored("room", PLACE.blob, stored.encode("blobs")) == stored
    assert place_named(NAMES.meta("room", PLACE.blob)) == ("room", PLACE.blob)


def test_a_blob_is_described_as_object_stores_do() -> None:
    facts = json.loads(Stored(Held(PLACE, 0, b"", 1_700_000_000), "nuid", 0, ()).encode("blobs"))
    assert facts["digest"] == "SHA-256=" + base64.urlsafe_b64encode(sha256(b"").digest()).decode()
    assert facts["mtime"] == "2023-11-14T22:13:20Z"
    assert (facts["name"], facts["bucket"], facts["nuid"]) == (f"room/{PLACE.blob}", "blobs", "nuid")


@pytest.mark.parametrize(
    "token", ["", "!", "bm9uZQ==", "Li4vLi4v", "_____w==", base64.urlsafe_b64encode(b"a/b.>").decode()]
)
def test_foreign_names_are_no_places(token: str) -> None:
    assert place_named(f"$O.blobs.M.{token}") is None


@pytest.mark.parametrize("part", ["", ".", "*", ">", "a.b", "a b", "a\n", "é", "a" * 65])
def test_no_subject_is_made_of_anything_else(part: str) -> None:
    makes: list[Callable[[], str]] = [
        lambda: NAMES.upload(PLACE._replace(owner=part)),
        lambda: NAMES.meta(part, PLACE.blob),
        lambda: NAMES.listed("room", part),
        lambda: NAMES.scope(part),
    ]
    for make in makes:
        with pytest.raises(InvalidInput):
            make()
