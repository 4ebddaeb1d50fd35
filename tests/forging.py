"""What somebody can make who holds a user's key and none of our manners: signed tokens, cards, records and frames.

Every signature here holds; only what is signed is wrong. Shared by the tests and by the generator of the vectors.
"""

import struct
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tests.builders import identity
from unibus.crypto import nkeys, sealing
from unibus.crypto.encoding import b64u, dump_json, load_json, transcript, unb64u
from unibus.crypto.frames import Content
from unibus.crypto.identity import CARD_TYP
from unibus.crypto.roomkey import EpochRef
from unibus.model.records import TYP


class _Removed:
    def __repr__(self) -> str:
        return "removed"


REMOVED: Any = _Removed()
FRAME_HEADER = struct.Struct(">BI32s16sII")


def header(typ: str = TYP, by: str = "ada", **changes: object) -> Mapping[str, object]:
    """The protected header as it should be, with changes."""
    return {"alg": "EdDSA", "kid": identity(by).user, "typ": typ} | changes


def token(head: object, payload: object, *, by: str = "ada") -> bytes:
    """A compact JWS with whatever header and payload: bytes as they are, anything else as JSON."""
    parts = (part if isinstance(part, bytes) else dump_json(part) for part in (head, payload))
    signed = ".".join(map(b64u, parts)).encode()
    return signed + b"." + b64u(identity(by).signing.sign(signed)).encode()


def payload_of(raw: bytes) -> dict[str, Any]:
    """What a token says."""
    value = load_json(unb64u(raw.split(b".")[1]))
    assert isinstance(value, dict)
    return value


def altered(raw: bytes, path: str, value: object) -> bytes:
    """A record of Ada's with one member changed, or `REMOVED`, and signed anew by her."""
    payload = payload_of(raw)
    *parents, last = path.split(".")
    place = payload
    for parent in parents:
        place = place[parent]
    if value is REMOVED:
        del place[last]
    else:
        place[last] = value
    return token(header(), payload)


def card(by: str = "ada", typ: str = CARD_TYP, **changes: object) -> str:
    """Ada's card with changes, signed by `by`."""
    ada = identity("ada")
    payload = {"sealing": keyed(ada.sealing.public), "user": ada.user, "v": 1}
    return token(header(typ, by), payload | changes, by=by).decode()


def keyed(public: bytes, **changes: object) -> dict[str, object]:
    """A card's `sealing` member."""
    return {"key": b64u(public), "suite": sealing.SUITE} | changes


def inner(content: Content, count: int, lengths: Sequence[int], data: bytes) -> bytes:
    """A frame's plaintext in the documented layout, with any count, lengths and data."""
    room, directory = content.room_head, content.directory_head
    heads = (room.sequence, room.digest, directory.sequence, directory.digest)
    return (
        struct.pack(">QI32sI32sI", content.sent_at, *heads, count) + struct.pack(f">{len(lengths)}I", *lengths) + data
    )


def frame(
    plaintext: bytes,
    room_key: bytes,
    epoch: EpochRef,
    session: bytes,
    *,
    by: str = "ada",
    version: int = 1,
    counter: int = 0,
    unsettled: int = 0,
) -> bytes:
    """A frame around any plaintext, made from the documentation and not by our code."""
    signer = identity(by)
    head = FRAME_HEADER.pack(version, epoch.number, nkeys.decode_public(signer.user), session, unsettled, counter)
    bound = transcript("unibus frame v1", epoch.bus, epoch.room, head)
    info = transcript("unibus frame key v1", epoch.bus, epoch.room, epoch.number, signer.user)
    cipher = AESGCM(HKDF(SHA256(), 32, session, info).derive(room_key))
    sealed = cipher.encrypt(counter.to_bytes(12, "big"), plaintext, bound)
    return head + sealed + signer.signing.sign(transcript("unibus frame signature v1", sha256(bound + sealed).digest()))
