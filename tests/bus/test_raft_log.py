"""The log of a stream's replicas: only what stops them is changed, whatever members put into it."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from unibus.bus.highway import digest64
from unibus.bus.mending import mend
from unibus.bus.raft_log import block_key, heal
from unibus.bus.s2 import decode

MALLORY, BOB = "U" + "M" * 55, "U" + "B" * 55
STOPS = b"NATS/1.0\r\nNats-Expected-Last-Msg-Id: x\r\n\r\n"
VOID = b"NATS/1.0\r\nVoid-Expected-Last-Msg-Id: x\r\n\r\n"
PLAIN = b"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n"
KEY = block_key("S-R3F-x", 1)


def message(sender: str, headers: bytes, body: bytes = b"frame") -> bytes:
    """A message as replicas agree on it, without what says that it is one."""
    subject = f"room.{'a' * 26}.msg.{sender}".encode()
    parts = (struct.pack("<QqH", 7, 1, len(subject)), subject, b"\x02\0_I", struct.pack("<H", len(headers)), headers)
    return b"".join((*parts, struct.pack("<I", len(body)), body, b"\0"))


def stored(content: bytes) -> bytes:
    return b"\x00\x04" + content


def compressed(content: bytes) -> bytes:
    """The same in S2, as one literal."""
    size, rest = bytearray(), len(content)
    while rest >= 0x80:
        size.append(rest & 0x7F | 0x80)
        rest >>= 7
    return b"\x00\x0e" + bytes(size) + bytes((rest, 61 << 2)) + struct.pack("<H", len(content) - 1) + content


def record(*entries: bytes, sequence: int = 1) -> bytes:
    """What one append is in the file."""
    head = struct.pack("<8sQQQQH", b"leaderid", 1, 1, 1, 1, len(entries))
    data = head + b"".join(struct.pack("<I", len(entry)) + entry for entry in entries) + b"\x01"
    start = struct.pack("<IQqH", 22 + len(data) + 8, sequence, 1, 0)
    return start + data + digest64(KEY, start[4:20] + data)


HONEST = record(stored(message(BOB, PLAIN)), b"\x02peers", stored(message(BOB, b"")), sequence=1)


@pytest.mark.parametrize(
    ("length", "digest"),
    [(0, 0x907A56DE22C26E53), (1, 0x7EAB43AAC7CDDD78), (2, 0xB8D0569AB0B53D62), (4, 0xF205A46893007EDA)],
)
def test_digests_are_those_that_the_hash_was_published_with(length: int, digest: int) -> None:
    assert digest64(bytes(range(32)), bytes(range(length))) == digest.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("block", "plain"),
    [
        (b"\x05\x10hello", b"hello"),
        (b"\x00", b""),
        (b"\x46\xf0\x45" + b"x" * 70, b"x" * 70),
        (b"\x09\x08abc\x09\x03", b"abcabcabc"[:9]),
        (b"\x0b\x08abc\x01\x03\x01\x00", b"abcabcabcab"),
        (b"\x0a\x04ab\x1e\x02\x00", b"ab" * 5),
        (b"\x0a\x04ab\x1f\x02\x00\x00\x00", b"ab" * 5),
    ],
    ids=["literal", "nothing", "long literal", "copy", "repeat", "far copy", "farther copy"],
)
def test_s2_is_taken_apart(block: bytes, plain: bytes) -> None:
    assert decode(block) == plain


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"\xff" * 10,
        b"\xff\xff\xff\xff\x0f",
        b"\x05\x10hell",
        b"\x05\x09\x01",
        b"\x0a\x04ab\x1e\x00\x00",
        b"\x02\x00a",
    ],
    ids=["nothing", "a size without end", "too large", "cut off", "before its beginning", "no distance", "too short"],
)
def test_s2_that_lies_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match=r"S2|number"):
        decode(block)


def test_a_log_in_which_nothing_is_wrong_stays_as_it_is() -> None:
    assert (heal(HONEST, KEY).block, heal(HONEST, KEY).subjects) == (HONEST, frozenset())


@pytest.mark.parametrize("form", [stored, compressed])
def test_the_header_is_made_void_and_its_sender_named(form: Callable[[bytes], bytes]) -> None:
    other = stored(message(BOB, PLAIN))
    before = HONEST + record(other, form(message(MALLORY, STOPS)), other, sequence=2) + HONEST
    healed = heal(before, KEY)
    after = HONEST + record(other, stored(message(MALLORY, VOID)), other, sequence=2) + HONEST
    assert healed.block == after
    assert {subject.split(".")[3] for subject in healed.subjects} == {MALLORY}
    assert heal(after, KEY).block == after


def test_nobody_is_blamed_for_what_stands_in_a_body() -> None:
    """Not even with the bytes of a whole record in another's name."""
    forged = record(stored(message(BOB, STOPS)))
    before = record(stored(message(MALLORY, PLAIN, STOPS)), compressed(message(MALLORY, PLAIN, forged)))
    assert heal(before, KEY).block == before
    assert heal(before, KEY).subjects == frozenset()


def test_what_is_damaged_or_no_record_stays_as_it_is() -> None:
    wrong = record(stored(message(MALLORY, STOPS)))
    damaged = wrong[:40] + bytes((wrong[40] ^ 1,)) + wrong[41:]
    removed = record(stored(message(MALLORY, STOPS)), sequence=1 << 63 | 5)
    torn = struct.pack("<I", 64) + os.urandom(16) + bytes(2) + b"\xff" * 42
    for tail in (damaged, torn, removed, wrong[:-1], b"\0" * 40, b"\xff" * 7, os.urandom(3)):
        assert heal(HONEST + tail, KEY).block == HONEST + tail
    for before in (damaged, torn):
        assert heal(before + wrong, KEY).block == before + record(stored(message(MALLORY, VOID)))


def test_only_the_files_with_something_wrong_are_replaced(tmp_path: Path) -> None:
    logs = tmp_path / "jetstream" / "SYS" / "_js_" / "S-R3F-x" / "msgs"
    logs.mkdir(parents=True)
    (logs / "1.blk").write_bytes(HONEST + record(stored(message(MALLORY, STOPS)), sequence=2))
    (logs / "2.blk").write_bytes(HONEST)
    (logs / "index.db").write_bytes(b"remembered")
    untouched = (logs / "2.blk").stat().st_ino
    assert mend(tmp_path).users == {MALLORY}
    assert sorted(path.name for path in logs.iterdir()) == ["1.blk", "2.blk"]
    assert (logs / "2.blk").stat().st_ino == untouched
    assert mend(tmp_path) == mend(tmp_path / "nowhere")


def test_a_form_that_is_not_known_is_named_and_left_alone(tmp_path: Path) -> None:
    logs = tmp_path / "jetstream" / "SYS" / "_js_" / "S-R3F-x" / "msgs"
    logs.mkdir(parents=True)
    strange = record(b"\x00\x04" + STOPS)
    (logs / "1.blk").write_bytes(strange)
    mended = mend(tmp_path)
    assert mended.users == frozenset()
    assert mended.strange[0].startswith("S-R3F-x/1.blk: a message")
    assert (logs / "1.blk").read_bytes() == strange
