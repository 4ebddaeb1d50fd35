"""Vectors for frames: exact bytes for a fixed session and counter, and frames that nobody believes."""

from dataclasses import asdict, replace

from tests import forging
from tests.builders import identity
from tests.vectors.keys import EPOCH, KEY
from unibus.crypto import nkeys
from unibus.crypto.encoding import b64u
from unibus.crypto.frames import MAX_COUNTER, MAX_UNSETTLED, Content, seal_frame, session_anew
from unibus.crypto.heads import Head
from unibus.crypto.roomkey import EpochRef
from unibus.errors import FrameInvalid

Json = dict[str, object]
SESSION = bytes(range(16))
HEADS = Head(5, bytes([5] * 32)), Head(9, bytes([9] * 32))
REGIONS = {
    "version": 0,
    "epoch": 4,
    "sender": 5,
    "session": 37,
    "unsettled": 56,
    "counter": 60,
    "ciphertext": 61,
    "tag": -65,
    "signature": -1,
}


def frame_vectors() -> Json:
    """`frames.json`."""
    good = [
        _good("one message", 0, (b"hello",)),
        _good("the same as the second frame of the session", 1, (b"hello",)),
        _good("three messages, one of them empty", 2, (b"hello", b"", "wörld".encode())),
        _good("the last frame of a session", MAX_COUNTER - 1, (b"",)),
        _good("four frames before it were still on their way", 4, (b"hello",), 4),
        _good("as many on their way as there may be", 300, (b"hello",), MAX_UNSETTLED),
    ]
    content = Content(1_800_000_000_123, *HEADS, (b"hello",))
    frame = seal_frame(identity("ada").signing, KEY, EPOCH, SESSION, 0, content)
    bob = seal_frame(identity("bob").signing, KEY, EPOCH, SESSION, 0, content)
    bad = [_bad(f"a bit flipped in the {region}", _flip(frame, at)) for region, at in REGIONS.items()]
    bad += [
        _bad("moved to another room", frame, replace(EPOCH, room="a" * 26)),
        _bad("moved to another bus", frame, replace(EPOCH, bus=b64u(bytes(32)))),
        _bad("read as of another epoch", frame, replace(EPOCH, number=3)),
        _bad("another room key", frame, key=bytes(32)),
        _bad("another sender's name on it", frame[:5] + nkeys.decode_public(identity("bob").user) + frame[37:]),
        _bad("another sender's signature on it", frame[:-64] + bob[-64:]),
        _bad("cut", frame[:-1]),
        _bad("cut to its header", frame[:61]),
        _bad("one byte more", frame + b"\0"),
        _bad("nothing", b""),
    ]
    for why, count, lengths, data in (
        ("no messages", 0, [], b""),
        ("lengths that add up to less", 1, [4], b"hello"),
        ("lengths that add up to more", 1, [6], b"hello"),
        ("more messages than lengths", 3, [5], b"hello"),
        ("a number of messages that overflows 32 bits", 2**32 - 1, [5], b"hello"),
    ):
        plain = forging.inner(content, count, lengths, data)
        bad.append(_bad(f"rightly signed and encrypted: {why}", forging.frame(plain, KEY, EPOCH, SESSION)))
    plain = forging.inner(content, 1, [5], b"hello")
    for why, made in (
        ("a version to come", forging.frame(plain, KEY, EPOCH, SESSION, version=2)),
        ("more left open than was before it", forging.frame(plain, KEY, EPOCH, SESSION, counter=4, unsettled=5)),
        (
            "more left open than there may be",
            forging.frame(plain, KEY, EPOCH, SESSION, counter=300, unsettled=MAX_UNSETTLED + 1),
        ),
        ("a plaintext cut short", forging.frame(plain[:50], KEY, EPOCH, SESSION)),
    ):
        bad.append(_bad(f"rightly signed and encrypted: {why}", made))
    return {
        "comment": "Frames: the same inputs give the same bytes. `refused` are frames that no client believes. "
        "`sealed_anew` are the sessions of frames that take the messages of others.",
        "frames": good,
        "refused": bad,
        "sealed_anew": [
            {
                "comment": f"in place of the frame with counter {counter}",
                "session_hex": SESSION.hex(),
                "counter": counter,
                "anew_hex": session_anew(SESSION, counter).hex(),
            }
            for counter in (0, 1, MAX_COUNTER - 1)
        ],
    }


def _good(why: str, counter: int, messages: tuple[bytes, ...], unsettled: int = 0) -> Json:
    content = Content(1_800_000_000_123, *HEADS, messages)
    frame = seal_frame(identity("ada").signing, KEY, EPOCH, SESSION, counter, content, unsettled=unsettled)
    return {
        "comment": why,
        "seed": identity("ada").seed,
        **_place(EPOCH, KEY),
        "session_hex": SESSION.hex(),
        "unsettled": unsettled,
        "counter": counter,
        "sent_at_ms": content.sent_at,
        "room_head": {"sequence": HEADS[0].sequence, "hash": HEADS[0].hash},
        "directory_head": {"sequence": HEADS[1].sequence, "hash": HEADS[1].hash},
        "messages_hex": [message.hex() for message in messages],
        "frame_hex": frame.hex(),
    }


def _bad(why: str, frame: bytes, epoch: EpochRef = EPOCH, *, key: bytes = KEY) -> Json:
    return {"comment": why, **_place(epoch, key), "frame_hex": frame.hex(), "error": FrameInvalid.code}


def _place(epoch: EpochRef, key: bytes) -> Json:
    return {**asdict(epoch), "room_key_hex": key.hex()}


def _flip(frame: bytes, at: int) -> bytes:
    changed = bytearray(frame)
    changed[at] ^= 1
    return bytes(changed)
