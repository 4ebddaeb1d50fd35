"""Vectors for room keys: commitments, links, digests of sealed keys, and sealed keys to open."""

from dataclasses import asdict, replace

from tests.builders import identity, user
from unibus.crypto.encoding import b64u
from unibus.crypto.roomkey import EpochRef, commitment, link, open_sealed, seal_to, sealed_digest
from unibus.errors import SealedKeyInvalid

Json = dict[str, object]
EPOCH = EpochRef(b64u(bytes(range(32))), "unibus2room2of2the2vectors", 2)
KEY, BEFORE = bytes(range(32)), bytes(range(32, 64))


def fresh_sealed() -> bytes:
    """A key sealed to Ada. HPKE is randomized: the generator keeps the one that is in the file."""
    return seal_to(KEY, EPOCH, user("ada"), identity("ada").sealing.public)


def opens(sealed: bytes) -> bool:
    """Whether these bytes are still what the vectors say they are."""
    try:
        return open_sealed(identity("ada"), sealed, EPOCH, commitment(KEY, EPOCH)) == KEY
    except SealedKeyInvalid:
        return False


def key_vectors(sealed: bytes) -> Json:
    """`room-keys.json`, around one sealed key."""
    good = _case("sealed to ada for this epoch", sealed)
    flipped = [
        (f"a bit flipped in the {part}", bytes([*sealed[:at], sealed[at] ^ 1, *sealed[at + 1 :]]))
        for part, at in (
            ("version", 0),
            ("KEM id", 2),
            ("KDF id", 4),
            ("AEAD id", 6),
            ("ML-KEM ciphertext", 7),
            ("X25519 share", 7 + 1088),
            ("ciphertext", 7 + 1120),
            ("tag", len(sealed) - 1),
        )
    ]
    bad = [
        *(_case(why, other) for why, other in flipped),
        _case("cut", sealed[:-1]),
        _case("one byte more", sealed + b"\0"),
        _case("nothing", b""),
        _case("handed to another member", sealed, seed=identity("bob").seed),
        _case("moved to another bus", sealed, epoch=replace(EPOCH, bus=b64u(bytes(32)))),
        _case("moved to another room", sealed, epoch=replace(EPOCH, room="a" * 26)),
        _case("moved to another epoch", sealed, epoch=replace(EPOCH, number=3)),
        _case("the record commits to another key", sealed, committed=BEFORE),
    ]
    linked, first = link(KEY, EPOCH, BEFORE), replace(EPOCH, number=1)
    return {
        "comment": (
            "Room keys. A sealed key opens with the seed's sealing key, and counts only if it is the one committed to. "
            "HPKE is randomized: these are for opening."
        ),
        "sealed": [{**good, "room_key_hex": KEY.hex()}],
        "sealed_refused": [{**case, "error": SealedKeyInvalid.code} for case in bad],
        "links": [
            {
                "comment": "from the key of epoch 2 to that of epoch 1",
                **asdict(EPOCH),
                "room_key_hex": KEY.hex(),
                "linked_hex": linked.hex(),
                "committed_before_hex": commitment(BEFORE, first).hex(),
                "previous_key_hex": BEFORE.hex(),
            }
        ],
        "links_refused": [
            {
                "comment": why,
                **asdict(EPOCH),
                "room_key_hex": key.hex(),
                "linked_hex": data.hex(),
                "committed_before_hex": commitment(BEFORE, first).hex(),
                "error": SealedKeyInvalid.code,
            }
            for why, key, data in (
                ("a bit flipped", KEY, bytes([linked[0] ^ 1]) + linked[1:]),
                ("another key", BEFORE, linked),
                ("leads to another key than the log commits to", KEY, link(KEY, EPOCH, KEY)),
            )
        ],
        "digests": [
            {
                "comment": "the hash that a record carries over all its sealed keys, here short stand-ins",
                "sealed_hex": {name: data.hex() for name, data in sorted(some.items())},
                "digest_hex": sealed_digest(some).hex(),
            }
            for some in (
                {},
                {user("ada"): b"1"},
                {user("ada"): b"1", user("bob"): b"2"},
                {user("ada"): b"2", user("bob"): b"1"},
            )
        ],
    }


def _case(why: str, sealed: bytes, *, seed: str | None = None, epoch: EpochRef = EPOCH, committed: bytes = KEY) -> Json:
    return {
        "comment": why,
        **asdict(epoch),
        "seed": seed or identity("ada").seed,
        "committed_hex": commitment(committed, epoch).hex(),
        "sealed_hex": sealed.hex(),
    }
