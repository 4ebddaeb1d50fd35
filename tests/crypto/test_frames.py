"""Frames: read by members of the one room under the one key, as sent, by who sent it; else one named error."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import forging
from tests.builders import identity
from unibus.crypto import nkeys
from unibus.crypto.encoding import b64u, transcript
from unibus.crypto.frames import (
    MAX_COUNTER,
    MAX_FRAME,
    MESSAGES,
    OVERHEAD,
    Content,
    open_frame,
    read_envelope,
    seal_frame,
)
from unibus.crypto.heads import Head
from unibus.crypto.identity import Identity
from unibus.crypto.roomkey import EpochRef
from unibus.errors import FrameInvalid, TooLarge

ADA, BOB = identity("ada"), identity("bob")
EPOCH = EpochRef(b64u(b"\7" * 32), "a" * 26, 3)
KEY, SESSION = bytes(range(32)), bytes(range(16))
CONTENT = Content(1_800_000_000_123, Head(5, b"\5" * 32), Head(9, b"\x09" * 32), (b"hello", b"", b"world"))


def seal(
    content: Content = CONTENT, *, by: Identity = ADA, key: bytes = KEY, epoch: EpochRef = EPOCH, counter: int = 0
) -> bytes:
    return seal_frame(by.signing, key, epoch, SESSION, counter, content)


def read(frame: bytes, key: bytes = KEY, epoch: EpochRef = EPOCH) -> Content:
    return open_frame(frame, read_envelope(frame), key, epoch)


FRAME = seal()


def by_hand(plaintext: bytes, *, version: int = 1, counter: int = 0, unsettled: int = 0) -> bytes:
    return forging.frame(plaintext, KEY, EPOCH, SESSION, version=version, counter=counter, unsettled=unsettled)


def inner(count: int, lengths: Sequence[int], data: bytes) -> bytes:
    return forging.inner(CONTENT, count, lengths, data)


def test_a_frame_reads_back() -> None:
    envelope = read_envelope(FRAME)
    assert (envelope.epoch, envelope.sender, envelope.session, envelope.counter) == (3, ADA.user, SESSION, 0)
    assert read(FRAME) == CONTENT


def test_the_layout_is_as_documented() -> None:
    assert by_hand(inner(3, [5, 0, 5], b"helloworld")) == FRAME


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=20), st.integers(0, MAX_COUNTER - 1))
def test_messages_come_back(messages: list[bytes], counter: int) -> None:
    content = replace(CONTENT, messages=tuple(messages))
    frame = seal(content, counter=counter)
    assert read(frame) == content
    assert len(frame) == OVERHEAD + 4 * len(messages) + sum(map(len, messages))


@given(st.integers(0, len(FRAME) - 1), st.integers(1, 255))
def test_every_changed_byte_is_noticed(place: int, flip: int) -> None:
    with pytest.raises(FrameInvalid):
        read(FRAME[:place] + bytes([FRAME[place] ^ flip]) + FRAME[place + 1 :])


@given(st.integers(0, len(FRAME) - 1), st.binary(min_size=1, max_size=80))
def test_a_cut_or_longer_frame_is_noticed(length: int, more: bytes) -> None:
    for frame in (FRAME[:length], FRAME + more, more + FRAME):
        with pytest.raises(FrameInvalid):
            read(frame)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_no_frame(data: bytes) -> None:
    for frame in (data, b"\1" + data, FRAME[:61] + data):
        with pytest.raises(FrameInvalid):
            read(frame)


@pytest.mark.parametrize(
    "elsewhere",
    [replace(EPOCH, bus=b64u(b"\x08" * 32)), replace(EPOCH, room="b" * 26), replace(EPOCH, number=4)],
    ids=["bus", "room", "epoch"],
)
def test_a_frame_that_was_moved_does_not_verify(elsewhere: EpochRef) -> None:
    # Whoever moves it may hold the keys of both places: the signature must notice, not the key.
    with pytest.raises(FrameInvalid, match="signature"):
        read(FRAME, KEY, elsewhere)


def test_a_room_key_alone_does_not_read_under_another_epoch_or_forge_a_sender() -> None:
    with pytest.raises(FrameInvalid, match="room's key"):
        read(FRAME, bytes(32))
    # Bob has the room key. He puts Ada's name on his own frame, and his own name on hers.
    bob = seal(by=BOB)
    for head, tail in ((FRAME, bob), (bob, FRAME)):
        with pytest.raises(FrameInvalid, match="signature"):
            read(head[:61] + tail[61:])
        with pytest.raises(FrameInvalid):
            read(head[:-64] + tail[-64:])


def test_a_frame_re_signed_by_another_does_not_open() -> None:
    # Bob, without the room key, signs Ada's ciphertext as his own: the key is bound to the sender.
    header = forging.FRAME_HEADER.pack(1, 3, nkeys.decode_public(BOB.user), SESSION, 0, 0)
    bound = transcript("unibus frame v1", EPOCH.bus, EPOCH.room, header)
    stolen = header + FRAME[61:-64] + BOB.signing.sign(MESSAGES.signed(bound, FRAME[61:-64]))
    with pytest.raises(FrameInvalid, match="room's key"):
        read(stolen)


@pytest.mark.parametrize(
    "made",
    [
        by_hand(inner(0, [], b"")),
        by_hand(inner(1, [6], b"hello")),
        by_hand(inner(1, [4], b"hello")),
        by_hand(inner(2, [5], b"hello")),
        by_hand(inner(2**32 - 1, [5], b"hello")),
        by_hand(inner(2, [2**32 - 1, 6], b"hello")),
        by_hand(inner(1, [5], b"hello")[:60]),
        by_hand(b""),
        by_hand(inner(1, [5], b"hello"), version=2),
        by_hand(inner(1, [5], b"hello"), version=0),
        by_hand(inner(1, [5], b"hello"), counter=4, unsettled=5),
        by_hand(inner(1, [5], b"hello"), counter=300, unsettled=256),
    ],
    ids=[
        "none",
        "short",
        "long",
        "missing",
        "huge count",
        "overflow",
        "cut",
        "empty",
        "v2",
        "v0",
        "left open",
        "much left open",
    ],
)
def test_a_member_who_makes_frames_by_hand_gets_nothing_past(made: bytes) -> None:
    with pytest.raises(FrameInvalid):
        read(made)


def test_a_small_order_sender_is_refused() -> None:
    # Under the neutral point the all-zero signature holds for anything, in a verifier that does not look.
    header = forging.FRAME_HEADER.pack(1, 3, b"\1" + bytes(31), SESSION, 0, 0)
    with pytest.raises(FrameInvalid, match="signature"):
        read(header + FRAME[61:-64] + b"\1" + bytes(63))


def test_no_key_and_nonce_are_used_twice() -> None:
    frames = [seal(counter=counter) for counter in range(4)]
    frames.append(seal_frame(ADA.signing, KEY, EPOCH, bytes(16), 0, CONTENT))
    frames.append(seal(by=BOB))
    frames.append(seal(epoch=replace(EPOCH, number=4)))
    for one, other in pairwise(sorted(frame[61:-64] for frame in frames)):
        assert one[:16] != other[:16]


def test_a_frame_and_a_session_are_bounded() -> None:
    room = MAX_FRAME - OVERHEAD - 4
    assert len(seal(replace(CONTENT, messages=(bytes(room),)))) == MAX_FRAME
    with pytest.raises(TooLarge, match="send less"):
        seal(replace(CONTENT, messages=(bytes(room + 1),)))
    with pytest.raises(TooLarge, match="begin another"):
        seal(counter=MAX_COUNTER)
    envelope = read_envelope(seal_frame(ADA.signing, KEY, EPOCH, SESSION, 9, CONTENT, unsettled=4))
    assert (envelope.counter, envelope.unsettled, envelope.settled) == (9, 4, 5)
    with pytest.raises(FrameInvalid, match="length"):
        read_envelope(bytes(MAX_FRAME + 1))
