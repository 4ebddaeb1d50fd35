"""Blob chunks: what was sealed opens to the same bytes, and everything that was done to it on the way is named."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from unibus.crypto.blobs import (
    CHUNK,
    MAX_CHUNKS,
    MAX_PLAIN,
    SEALED_CHUNK,
    Opener,
    chunks,
    seal_chunks,
    sealed_size,
)
from unibus.errors import BlobInvalid, InvalidInput, TooLarge

KEY = bytes(range(32))
SIZES = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5]


def content(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def update(opener: Opener, data: bytes) -> bytes:
    into = memoryview(bytearray(len(data) + CHUNK))
    return bytes(into[: opener.update(data, into)])


def finish(opener: Opener) -> bytes:
    into = memoryview(bytearray(CHUNK))
    return bytes(into[: opener.finish(into)])


def opened(sealed: Sequence[bytes], key: bytes = KEY, first: int = 0) -> bytes:
    opener = Opener(key, first)
    return b"".join(update(opener, piece) for piece in sealed) + finish(opener)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_opens(size: int) -> None:
    sealed = seal_chunks(KEY, content(size), 0, ends=True)
    assert len(sealed) == sealed_size(size)
    assert opened([sealed]) == content(size)


def test_the_form_is_the_documented_one() -> None:
    cipher, plain = AESGCM(KEY), content(CHUNK + 3)
    first = cipher.encrypt(bytes(12), plain[:CHUNK], None)
    last = cipher.encrypt(bytes(10) + b"\x01\x01", plain[CHUNK:], None)
    assert seal_chunks(KEY, plain, 0, ends=True) == first + last
    assert seal_chunks(KEY, b"", 0, ends=True) == cipher.encrypt(bytes(11) + b"\x01", b"", None)


@given(size=st.sampled_from(SIZES), cuts=st.lists(st.integers(0, 3 * SEALED_CHUNK), max_size=5))
def test_however_it_arrives(size: int, cuts: list[int]) -> None:
    sealed = seal_chunks(KEY, content(size), 0, ends=True)
    edges = [0, *sorted(cuts), len(sealed)]
    assert opened([sealed[a:b] for a, b in pairwise(edges)]) == content(size)


def test_it_may_be_sealed_and_opened_from_a_chunk_on() -> None:
    plain = content(3 * CHUNK + 9)
    sealed = seal_chunks(KEY, plain[: 2 * CHUNK], 0, ends=False) + seal_chunks(KEY, plain[2 * CHUNK :], 2, ends=True)
    assert sealed == seal_chunks(KEY, plain, 0, ends=True)
    assert opened([sealed[SEALED_CHUNK:]], first=1) == plain[CHUNK:]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


WHOLE = seal_chunks(KEY, content(3 * CHUNK), 0, ends=True)
A, B, C = (WHOLE[n * SEALED_CHUNK : (n + 1) * SEALED_CHUNK] for n in range(3))


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (lambda: flipped(WHOLE, 0), "altered: its chunk 0"),
        (lambda: flipped(WHOLE, SEALED_CHUNK + CHUNK), "altered: its chunk 1"),
        (lambda: flipped(WHOLE, len(WHOLE) - 1), "altered: its chunk 2"),
        (lambda: A + B, "cut short"),
        (lambda: A, "cut short"),
        (lambda: WHOLE[:-1], "altered"),
        (lambda: b"", "altered"),
        (lambda: WHOLE + C, "extended"),
        (lambda: WHOLE + b"x", "extended"),
        (lambda: WHOLE + seal_chunks(KEY, b"more", 3, ends=True), "extended"),
        (lambda: B + A + C, "altered: its chunk 0"),
        (lambda: A + C, "altered: its chunk 1"),
        (lambda: A + A + B + C, "altered: its chunk 1"),
        (lambda: seal_chunks(bytes(32), content(3 * CHUNK), 0, ends=True), "altered: its chunk 0"),
    ],
    ids=[
        *("first bit", "a tag", "last bit", "without the last chunk", "only the first", "without the last byte"),
        *("nothing", "the last twice", "a byte more", "a chunk more, by who has the key", "swapped", "one left out"),
        *("one twice", "another key"),
    ],
)
def test_every_attack_has_its_name(attack: Callable[[], bytes], name: str) -> None:
    with pytest.raises(BlobInvalid, match=name):
        opened([attack()])


def test_nothing_of_a_bad_chunk_comes_out() -> None:
    opener = Opener(KEY)
    assert update(opener, A + b"x") == content(CHUNK)
    into = memoryview(bytearray(2 * CHUNK))
    with pytest.raises(BlobInvalid):
        opener.update(flipped(B, 9)[1:] + b"y", into)
    assert not any(into)


def test_the_budget_of_a_key_is_kept() -> None:
    assert chunks(MAX_PLAIN) == MAX_CHUNKS == 2**32
    with pytest.raises(TooLarge):
        chunks(MAX_PLAIN + 1)
    assert seal_chunks(KEY, b"x", MAX_CHUNKS - 1, ends=True)
    with pytest.raises(TooLarge):
        seal_chunks(KEY, b"x", MAX_CHUNKS, ends=True)


def test_only_the_last_chunk_is_short() -> None:
    with pytest.raises(InvalidInput):
        seal_chunks(KEY, b"x", 0, ends=False)
