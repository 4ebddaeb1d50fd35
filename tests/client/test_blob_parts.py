"""Parts and notes of an upload: hashed once, made again when one was cut, and never two contents in one place."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from unibus.client.blob_parts import AHEAD, Parts
from unibus.client.blob_resume import KeptNotes, Notes
from unibus.client.blob_source import PART, PART_CHUNKS, file_source, spooled_source
from unibus.crypto.blobs import CHUNK, seal_chunks
from unibus.crypto.encoding import b64u
from unibus.errors import InvalidInput, KeyCustody

if TYPE_CHECKING:
    from hashlib import _Hash

PLAIN = PART_CHUNKS * CHUNK
DATA = os.urandom(100) * ((2 * PLAIN + 1000) // 100)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(DATA)
    return path


@contextmanager
def parts_of(source: Path, notes: Notes) -> Iterator[Parts]:
    with file_source(source, notes.key) as file:
        yield Parts(file, notes)


def kept(source: Path) -> KeptNotes:
    return KeptNotes(source.parent / "resume", "room", source)


def make(parts: Parts, number: int) -> tuple[bytes, str]:
    part = parts.make(number, memoryview(bytearray(PART)))
    return bytes(part.sealed), part.through


def altered(source: Path, at: int) -> None:
    """Change one byte, and nothing that tells when it was."""
    facts = source.stat()
    with source.open("r+b") as file:
        file.seek(at)
        file.write(bytes([DATA[at] ^ 1]))
    os.utime(source, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_parts_are_the_blob_and_the_last_hash_its_id(source: Path) -> None:
    notes = Notes()
    whole = seal_chunks(notes.key, DATA, 0, ends=True)
    with parts_of(source, notes) as parts:
        assert (parts.recall(), parts.id, parts.size) == (True, None, len(whole))
        made = [make(parts, number) for number in range(3)]
        assert b"".join(sealed for sealed, _ in made) == whole
        ends = (PART, 2 * PART, len(whole))
        assert [through for _, through in made] == [b64u(sha256(whole[:end]).digest()) for end in ends]
        assert parts.id == parts.whole() == made[-1][1]


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, PLAIN, PLAIN + 1])
def test_a_stream_gives_the_same_parts_as_a_file(source: Path, size: int) -> None:
    notes, again = Notes(), Notes()
    source.write_bytes(DATA[:size])
    with source.open("rb") as stream, ExitStack() as stack:
        spooled = Parts(stack.enter_context(spooled_source(stream, notes.key)), notes)
        again.key = notes.key
        parts = stack.enter_context(parts_of(source, again))
        for number in range(-(-parts.size // PART)):
            assert make(parts, number) == make(spooled, number)
        assert parts.id == spooled.id


def test_a_part_is_made_again_wherever_it_was_cut(source: Path) -> None:
    with parts_of(source, Notes()) as parts:
        made = [make(parts, number) for number in range(3)]
        assert [make(parts, number) for number in (2, 1, 2, 0, 2, 1)] == [made[n] for n in (2, 1, 2, 0, 2, 1)]


class Counted:
    """A source that notes which parts were made of it, each a byte."""

    size = 6 * PLAIN

    def __init__(self) -> None:
        self.made: list[int] = []

    def part(self, number: int, into: memoryview, hasher: "_Hash") -> int:
        self.made.append(number)
        into[0] = number
        hasher.update(into[:1])
        return 1


def test_all_that_may_be_cut_is_made_again_alone() -> None:
    source = Counted()
    parts = Parts(source, Notes())
    for number in range(6):
        make(parts, number)
    for number in range(5 - AHEAD - 1, 6):  # unanswered, on its way, and made already
        make(parts, number)
    assert source.made == [0, 1, 2, 3, 4, 5, 2, 3, 4, 5]


@pytest.mark.parametrize("at", [0, PLAIN, 2 * PLAIN + 800])
def test_what_changed_is_never_sealed_again_with_the_key(source: Path, at: int) -> None:
    with parts_of(source, Notes()) as parts:
        for number in range(3):
            make(parts, number)
        altered(source, at)
        with pytest.raises(InvalidInput, match="changed while it was being stored"):
            make(parts, at // PLAIN)


def test_a_file_that_grows_or_is_written_while_it_is_read_is_refused(source: Path) -> None:
    for change in (lambda: os.truncate(source, len(DATA) + 1), lambda: source.write_bytes(DATA), source.touch):
        source.write_bytes(DATA)
        os.utime(source, ns=(1, 1))
        with parts_of(source, Notes()) as parts:
            make(parts, 0)
            change()
            with pytest.raises(InvalidInput, match="changed while it was being stored"):
                make(parts, 1)


def test_another_process_goes_on_with_what_was_noted(source: Path) -> None:
    notes = kept(source)
    with parts_of(source, notes) as parts:
        made = [make(parts, number) for number in range(2)]
    again = kept(source)
    assert (again.key, again.name, again.parts) == (notes.key, notes.name, notes.parts)
    with parts_of(source, again) as parts:
        assert parts.recall()
        assert (parts.noted, parts.id) == (2, None)
        assert make(parts, 1) == made[1]
        make(parts, 2)
    with parts_of(source, kept(source)) as parts:
        assert parts.id is not None
    again.forget()
    assert kept(source).key != notes.key


@pytest.mark.parametrize("at", [0, PLAIN, 2 * PLAIN - 1])
def test_another_process_notices_that_the_file_is_another(source: Path, at: int) -> None:
    with parts_of(source, kept(source)) as parts:
        for number in range(2):
            make(parts, number)
    altered(source, at)
    with parts_of(source, kept(source)) as parts:
        assert not parts.recall()


def test_a_file_that_was_cut_or_has_grown_is_another(source: Path) -> None:
    with parts_of(source, kept(source)) as parts:
        for number in range(3):
            make(parts, number)
    for size in (0, PLAIN, len(DATA) - 1, len(DATA) + 1):
        source.write_bytes((DATA + b"x")[:size])
        with parts_of(source, kept(source)) as parts:
            assert not parts.recall()


def test_a_note_is_there_before_the_part_is_given_out(source: Path) -> None:
    with parts_of(source, kept(source)) as parts:
        make(parts, 0)
        assert len(kept(source).parts) == 1
        (source.parent / "resume").rename(source.parent / "elsewhere")
        with pytest.raises(KeyCustody, match="needs to resume"):
            make(parts, 1)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\n", b"torn"])
def test_notes_that_are_damaged_are_none(source: Path, damage: bytes) -> None:
    notes = kept(source)
    with parts_of(source, notes) as parts:
        make(parts, 0)
    (path,) = (source.parent / "resume").iterdir()
    path.write_bytes(path.read_bytes() + damage if damage == b"torn" else damage)
    found = kept(source)
    assert found.key != notes.key
    assert found.parts == []
    with parts_of(source, found) as parts:
        make(parts, 0)
    assert kept(source).parts == found.parts
