"""Vectors for blobs and invites: sealed chunks, a manifest, an invite's token and proof, and what must be refused."""

from hashlib import sha256

from tests.builders import identity
from tests.vectors.frames import HEADS, SESSION
from tests.vectors.keys import EPOCH, KEY
from unibus.crypto.blobs import seal_chunks
from unibus.crypto.encoding import b64u
from unibus.crypto.frames import Content, seal_frame
from unibus.crypto.invites import InviteToken
from unibus.crypto.nkeys import SigningKey
from unibus.model.blobs import BlobManifest, manifest_purpose

Json = dict[str, object]
BLOB_KEY = bytes(range(32))
SIZES = {"an empty blob": 0, "five bytes": 5, "one full chunk": 65_536, "one byte more": 65_537}


def plain(size: int) -> bytes:
    """The vectors' plaintext: byte i is i modulo 251."""
    return bytes(i % 251 for i in range(size))


def blob_vectors() -> Json:
    """`blobs.json`."""
    five = seal_chunks(BLOB_KEY, plain(5), 0, ends=True)
    open_end = seal_chunks(BLOB_KEY, plain(65_536), 0, ends=False)
    bad = {
        "a bit flipped": bytes([five[0] ^ 1]) + five[1:],
        "cut inside the tag": five[:-1],
        "nothing at all": b"",
        "sixteen bytes more": five + bytes(16),
        "sealed under another key": seal_chunks(bytes(32), plain(5), 0, ends=True),
        "numbered from one": seal_chunks(BLOB_KEY, plain(5), 1, ends=True),
    }
    return {
        "comment": "key_hex seals; byte i of the plaintext is i modulo 251; id is the SHA-256 of all sealed bytes",
        "key_hex": BLOB_KEY.hex(),
        "blobs": [_blob(comment, size) for comment, size in SIZES.items()],
        "refused": [
            {"comment": comment, "sealed_hex": sealed.hex(), "error": "blob-invalid"} for comment, sealed in bad.items()
        ],
        "cut_at_a_chunk": {
            "comment": "a first chunk of 65,536 bytes that is not marked as the last, and nothing after it: refused",
            "sealed_sha256": b64u(sha256(open_end).digest()),
            "error": "blob-invalid",
        },
        "manifest": _manifest(),
        "invite": _invite(),
    }


def _blob(comment: str, size: int) -> Json:
    sealed = seal_chunks(BLOB_KEY, plain(size), 0, ends=True)
    return {
        "comment": comment,
        "size": size,
        "sealed_size": len(sealed),
        "id": b64u(sha256(sealed).digest()),
        "begins_hex": sealed[:32].hex(),
        "ends_hex": sealed[-32:].hex(),
    }


def _manifest() -> Json:
    sealed = seal_chunks(BLOB_KEY, plain(5), 0, ends=True)
    blob = b64u(sha256(sealed).digest())
    manifest = BlobManifest(name="notes.txt", size=5, key=b64u(BLOB_KEY), media_type="text/plain")
    content = Content(1_800_000_000_123, *HEADS, (manifest.model_dump_json(exclude_none=True).encode(),))
    frame = seal_frame(identity("ada").signing, KEY, EPOCH, SESSION, 0, content, manifest_purpose(blob))
    return {
        "comment": "a frame of purpose 'blob manifest' about the blob's id; as a message, or for another id, refused",
        "bus": EPOCH.bus,
        "room": EPOCH.room,
        "number": EPOCH.number,
        "room_key_hex": KEY.hex(),
        "blob": blob,
        "sender": identity("ada").user,
        "manifest": manifest.model_dump(exclude_none=True),
        "frame_hex": frame.hex(),
        "another_blob": b64u(bytes(32)),
        "error": "frame-invalid",
    }


def _invite() -> Json:
    token = InviteToken(EPOCH.bus, SigningKey.from_seed(bytes([7] * 32)), "http://192.0.2.1:8470")
    return {
        "comment": "what a token carries, and the proof that its holder lets this identity join",
        "token": token.text,
        "bus": token.bus,
        "invite": token.key.public,
        "seed_hex": token.key.seed.hex(),
        "url": token.url,
        "user": identity("bob").user,
        "proof": token.prove(identity("bob").user),
    }
