"""A frame made for one purpose is nothing for another: a manifest cannot pass as a message, nor for another blob."""

import pytest

from tests.builders import identity
from unibus.crypto.frames import MESSAGES, Content, Purpose, open_frame, read_envelope, seal_frame, verify_frame
from unibus.crypto.heads import Head
from unibus.crypto.roomkey import EpochRef
from unibus.errors import FrameInvalid

KEY, SESSION, REF = bytes([1]) * 32, bytes([2]) * 16, EpochRef("b" * 43, "r" * 26, 1)
CONTENT = Content(1, Head(1, bytes(32)), Head(1, bytes(32)), (b"hello",))
MANIFEST, OTHER = Purpose("blob manifest", "A" * 43), Purpose("blob manifest", "B" * 42 + "A")
PURPOSES = [MESSAGES, MANIFEST, OTHER, Purpose("blob manifest")]


def sealed(purpose: Purpose) -> bytes:
    return seal_frame(identity("ada").signing, KEY, REF, SESSION, 0, CONTENT, purpose)


@pytest.mark.parametrize("made", PURPOSES, ids=str)
@pytest.mark.parametrize("read", PURPOSES, ids=str)
def test_a_frame_opens_for_its_own_purpose_only(made: Purpose, read: Purpose) -> None:
    frame = sealed(made)
    envelope = read_envelope(frame)
    if made == read:
        assert open_frame(frame, envelope, KEY, REF, read) == CONTENT
        return
    for attempt in (
        lambda: open_frame(frame, envelope, KEY, REF, read),
        lambda: verify_frame(frame, envelope, REF, read),
    ):
        with pytest.raises(FrameInvalid, match="signature"):
            attempt()


def test_purposes_do_not_share_a_key() -> None:
    # The same session and counter under both: with one key this would be one nonce used twice.
    message, manifest = sealed(MESSAGES), sealed(MANIFEST)
    start, stop = 61, -64 - 16
    assert message[start:stop] != manifest[start:stop]
