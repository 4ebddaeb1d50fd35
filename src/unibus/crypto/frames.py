"""Frames: what one NATS message of a room carries. One or more application messages, encrypted once, signed once.

    offset size
    0      1    version, 1
    1      4    epoch
    5      32   sender's Ed25519 public key
    37     16   session: random, new for every run of a sender and every epoch
    53     4    unsettled: how many frames right before this one its sender did not know to be stored
    57     4    counter: 0, 1, 2 … within the session
    61     n    AES-256-GCM ciphertext and tag (RFC 5116)
    61+n   64   Ed25519 signature of the sender (RFC 8032), over a SHA-256 of all that is bound and the ciphertext

Inside the ciphertext: `sent_at` (8, Unix milliseconds), the sender's head of the room log (4 + 32) and of the
directory (4 + 32), the number of messages (4), their lengths (4 each), their bytes. All numbers are big endian.

The key is HKDF-SHA256 (RFC 5869) of the epoch's room key, salted with the session and bound to bus, room, epoch and
sender; the nonce is the counter. A session's key is thus used once per counter value, and a session ends at 2^32
frames, which is the nonce budget. Bus and room are not in the frame: they are in the associated data and under the
signature, so a frame moved elsewhere does not verify. A counter that is skipped was withheld, unless `unsettled` says
that it may never have been stored. Never decides whether the sender may write: `client` does.
"""

import struct
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from unibus.crypto import nkeys
from unibus.crypto.encoding import transcript
from unibus.crypto.heads import Head
from unibus.crypto.roomkey import EpochRef
from unibus.errors import FrameInvalid, TooLarge

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION = 1
MAX_FRAME = 1_000_000
MAX_COUNTER = 2**32
SESSION_BYTES = 2**40
"""How much one session's key should encrypt, in bytes of frames: its sender begins another session before more."""
_HEADER = struct.Struct(">BI32s16sII")
MAX_UNSETTLED = 255
_INNER = struct.Struct(">QI32sI32sI")
OVERHEAD = _HEADER.size + _INNER.size + 16 + 64
PER_MESSAGE = 4


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a frame is for. Key, associated data and signature depend on it: one made for another does not open.

    `about` names what the frame speaks of, where that is not in it; it is bound and not carried.
    """

    name: str
    about: str | None = None

    def bind(self, epoch: EpochRef, header: bytes) -> bytes:
        """What is signed and authenticated beside the ciphertext, see `encoding.transcript`."""
        about = () if self.about is None else (self.about,)
        return transcript(f"unibus {self.name} v1", epoch.bus, epoch.room, header, *about)

    def signed(self, bound: bytes, sealed: bytes | memoryview) -> bytes:
        """What the signature is over: a digest, because Ed25519 goes over its message twice, and slowly."""
        digest = sha256(bound)
        digest.update(sealed)
        return transcript(f"unibus {self.name} signature v1", digest.digest())


MESSAGES = Purpose("frame")


def signal_purpose(to: str) -> Purpose:
    """What is not stored, meant for `to`: one user, or all. It passes neither for a message nor for one to another."""
    return Purpose("signal", to)


@dataclass(frozen=True, slots=True)
class Envelope:
    """What anybody sees of a frame: epoch, sender (`U…`), session and counter. Not yet trusted.

    All counters of the session below `counter` - `unsettled` were stored, as its sender knew when it made the frame.
    """

    epoch: int
    sender: str
    session: bytes
    counter: int
    unsettled: int = 0

    @property
    def settled(self) -> int:
        """The counter below which all frames of the session are there."""
        return self.counter - self.unsettled


@dataclass(frozen=True, slots=True)
class Content:
    """What only members see: when it was sent (Unix ms), what the sender knew, and the messages."""

    sent_at: int
    room_head: Head
    directory_head: Head
    messages: tuple[bytes, ...]


def session_anew(session: bytes, counter: int) -> bytes:
    """The session of the one frame that takes the messages of another, so that never both are believed."""
    return sha256(transcript("unibus frame sealed anew v1", session, counter)).digest()[:16]


@lru_cache(maxsize=4096)
def _cipher(room_key: bytes, epoch: EpochRef, sender: str, session: bytes, purpose: str) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = epoch.bind(f"unibus {purpose} key v1", sender)
    return AESGCM(HKDF(SHA256(), length=32, salt=session, info=info).derive(room_key))


def seal_frame(
    key: nkeys.SigningKey,
    room_key: bytes,
    epoch: EpochRef,
    session: bytes,
    counter: int,
    content: Content,
    purpose: Purpose = MESSAGES,
    *,
    unsettled: int = 0,
) -> bytes:
    """The frame's bytes; `unsettled` is at most `counter` and MAX_UNSETTLED, see `Envelope`.

    Raises TooLarge when the messages do not fit into one frame or the session is used up.
    """
    if counter >= MAX_COUNTER:
        raise TooLarge("this session has sent its 2^32 frames: begin another")
    messages = content.messages
    facts = _INNER.pack(
        content.sent_at,
        content.room_head.sequence,
        content.room_head.digest,
        content.directory_head.sequence,
        content.directory_head.digest,
        len(messages),
    )
    inner = b"".join((facts, struct.pack(f">{len(messages)}I", *map(len, messages)), *messages))
    if len(inner) + _HEADER.size + 80 > MAX_FRAME:
        raise TooLarge(f"a frame is at most {MAX_FRAME} bytes: send less at once")
    header = _HEADER.pack(VERSION, epoch.number, nkeys.decode_public(key.public), session, unsettled, counter)
    bound = purpose.bind(epoch, header)
    cipher = _cipher(room_key, epoch, key.public, session, purpose.name)
    sealed = cipher.encrypt(counter.to_bytes(12, "big"), inner, bound)
    return b"".join((header, sealed, key.sign(purpose.signed(bound, sealed))))


def read_envelope(frame: bytes) -> Envelope:
    """The frame's header. Raises FrameInvalid for what cannot be a frame."""
    if not OVERHEAD <= len(frame) <= MAX_FRAME:
        raise FrameInvalid("a frame of this length cannot be")
    version, epoch, sender, session, unsettled, counter = _HEADER.unpack_from(frame)
    if version != VERSION:
        raise FrameInvalid(f"a frame of version {version}: a newer unibus may know it")
    return Envelope(epoch, _sender_text(sender), session, counter, unsettled)


@lru_cache(maxsize=4096)
def _sender_text(sender: bytes) -> str:
    return nkeys.encode_public("U", sender)


def _sealed(frame: bytes) -> memoryview:
    return memoryview(frame)[_HEADER.size : -64]


def verify_frame(frame: bytes, envelope: Envelope, epoch: EpochRef, purpose: Purpose = MESSAGES) -> bytes:
    """Check the signature, for which no key is needed; returns what it binds beside the ciphertext.

    `envelope` is of `read_envelope`. Raises FrameInvalid.
    """
    bound = purpose.bind(epoch, frame[: _HEADER.size])
    signed = purpose.signed(bound, _sealed(frame))
    if envelope.epoch != epoch.number or not nkeys.verify(envelope.sender, signed, frame[-64:]):
        raise FrameInvalid("a frame whose signature does not hold: it was altered, or made for another room")
    return bound


def open_frame(
    frame: bytes, envelope: Envelope, room_key: bytes, epoch: EpochRef, purpose: Purpose = MESSAGES
) -> Content:
    """Verify the signature, decrypt, take apart. `envelope` is of `read_envelope`. Raises FrameInvalid."""
    from cryptography.exceptions import InvalidTag

    bound = verify_frame(frame, envelope, epoch, purpose)
    if envelope.unsettled > min(envelope.counter, MAX_UNSETTLED):
        raise FrameInvalid("a frame that leaves open more than was before it, or can have been on its way")
    cipher = _cipher(room_key, epoch, envelope.sender, envelope.session, purpose.name)
    try:
        inner = cipher.decrypt(envelope.counter.to_bytes(12, "big"), _sealed(frame), bound)
    except InvalidTag as error:
        raise FrameInvalid("a frame that the room's key does not open") from error
    return _take_apart(inner)


def _take_apart(inner: bytes) -> Content:
    if len(inner) < _INNER.size:
        raise FrameInvalid("a frame that is cut short inside")
    sent_at, room_seq, room_digest, dir_seq, dir_digest, count = _INNER.unpack_from(inner)
    start = _INNER.size + PER_MESSAGE * count
    if count == 0 or start > len(inner):
        raise FrameInvalid("a frame whose number of messages is wrong")
    lengths = struct.unpack_from(f">{count}I", inner, _INNER.size)
    if start + sum(lengths) != len(inner):
        raise FrameInvalid("a frame whose lengths do not add up")
    messages = tuple([inner[start : (start := start + length)] for length in lengths])
    return Content(sent_at, Head(room_seq, room_digest), Head(dir_seq, dir_digest), messages)
