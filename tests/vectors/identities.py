"""Vectors for nkeys, identities and cards."""

from tests.builders import identity
from tests.forging import card, header, keyed, token
from unibus.crypto import nkeys, sealing
from unibus.crypto.encoding import dump_json
from unibus.crypto.identity import CARD_TYP
from unibus.errors import InvalidInput

Json = dict[str, object]


def nkey_vectors() -> Json:
    """`nkeys.json`."""
    raw, ada = bytes(range(32)), identity("ada")
    keys = [
        {
            "comment": f"kind {kind}: prefix, 32 bytes, CRC-16/XMODEM (little endian), as base32 without padding",
            "kind": kind,
            "bytes_hex": raw.hex(),
            "public": nkeys.encode_public(kind, raw),
            "seed": nkeys.encode_seed(kind, raw),
        }
        for kind in "UANX"
    ]
    last = ada.user[-1]
    bad = [
        ("one character mistyped", ada.user[:9] + ("A" if ada.user[9] != "A" else "B") + ada.user[10:]),
        ("the last character exchanged", ada.user[:-1] + ("A" if last != "A" else "B")),
        ("lower case", ada.user.lower()),
        ("padded", ada.user + "="),
        ("cut", ada.user[:-1]),
        ("a newline after it", ada.user + "\n"),
        ("an account's key", nkeys.encode_public("A", raw)),
        ("a seed", ada.seed),
        ("nothing", ""),
    ]
    key = nkeys.SigningKey.from_seed(raw)
    signature = key.sign(b"unibus")
    order = 2**252 + 27742317777372353535851937790883648493
    other_s = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    neutral = b"\1" + bytes(31)
    signed = [
        ("Ed25519 (RFC 8032) of the ASCII text unibus", key.public, signature, True),
        (
            "the same with the group's order added to S: a second form of one signature",
            key.public,
            signature[:32] + other_s,
            False,
        ),
        (
            "a key of small order, for which this holds for any text in a lenient verifier",
            nkeys.encode_public("U", neutral),
            neutral + bytes(32),
            False,
        ),
    ]
    return {
        "comment": "NATS nkeys, as unibus reads and writes them. `refused` are not user keys.",
        "keys": keys,
        "refused": [{"comment": why, "public": text, "error": InvalidInput.code} for why, text in bad],
        "signatures": [
            {"comment": why, "public": public, "text": "unibus", "signature_hex": value.hex(), "holds": holds}
            for why, public, value, holds in signed
        ],
    }


def card_vectors() -> Json:
    """`identities.json`."""
    ada, bob = identity("ada"), identity("bob")
    good = [
        {
            "comment": f"{name}: the seed gives the signing key, and by HKDF-SHA256 and SHAKE-256 the sealing key",
            "seed": identity(name).seed,
            "user": identity(name).user,
            "sealing_hex": identity(name).sealing.public.hex(),
            "card": identity(name).card(),
        }
        for name in ("ada", "bob")
    ]
    twice = dump_json(header(CARD_TYP))[:-1] + b',"typ":"unibus-card+jws"}'
    payload = {"sealing": keyed(ada.sealing.public), "user": ada.user, "v": 1}
    bad = [
        ("signed by somebody else", card("bob")),
        ("somebody else's name over one's own key", card(user=bob.user)),
        ("of another typ", card(typ="unibus-record+jws")),
        ("of another version", card(v=2)),
        ("a version that only equals 1 in some languages: true", card(v=True)),
        ("a version that only equals 1 in some languages: 1.0", card(v=1.0)),
        ("an unknown member", card(handle="ada")),
        ("an unknown member beside the key", card(sealing=keyed(ada.sealing.public, more=1))),
        ("another suite", card(sealing=keyed(ada.sealing.public, suite="X25519"))),
        ("a key cut short", card(sealing=keyed(ada.sealing.public[:-1]))),
        (
            "an ML-KEM key with coefficients out of range",
            card(sealing=keyed(b"\xff" * 1184 + ada.sealing.public[1184:])),
        ),
        (
            "an X25519 key of small order, which nobody can seal to",
            card(sealing=keyed(ada.sealing.public[:1184] + bytes(32))),
        ),
        ("alg none", token(header(CARD_TYP, alg="none"), payload).decode()),
        ("crit", token(header(CARD_TYP, crit=["exp"]), payload).decode()),
        ("a member twice in the header", token(twice, payload).decode()),
        ("a payload in UTF-16", token(header(CARD_TYP), dump_json(payload).decode().encode("utf-16")).decode()),
        ("the signature's last character exchanged for one that decodes alike", _alike(ada.card())),
        ("padded", ada.card() + "=="),
        ("cut", ada.card()[:-1]),
    ]
    return {
        "comment": f"Identities from their seeds, and cards. Suite: {sealing.SUITE}. No client takes the `refused`.",
        "identities": good,
        "refused": [{"comment": why, "card": text, "error": InvalidInput.code} for why, text in bad],
    }


def _alike(text: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]
