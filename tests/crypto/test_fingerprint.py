"""Fingerprints: their vectors, and that every bit of both keys counts."""

import json
from pathlib import Path

import pytest

from unibus.crypto.fingerprint import fingerprint
from unibus.crypto.identity import Identity

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "fingerprints.json").read_text("utf-8"))[
    "fingerprints"
]


@pytest.mark.parametrize("case", VECTORS, ids=[case["comment"] for case in VECTORS])
def test_the_vectors_hold(case: dict[str, str]) -> None:
    identity = Identity.from_seed(case["seed"])
    assert " ".join(fingerprint(identity.user, identity.sealing.public)) == case["fingerprint"]


def test_every_group_has_five_digits() -> None:
    groups = [group for number in range(50) for group in fingerprint("U", bytes([number]))]
    assert all(len(group) == 5 and group.isascii() and group.isdigit() for group in groups)
    assert any(group.startswith("0") for group in groups)  # such a one is padded, not shortened
    assert len(groups) == 600


def test_both_keys_count() -> None:
    one, two = (Identity.from_secret(bytes([number]) * 32) for number in (1, 2))
    key = one.sealing.public
    altered = bytes([key[0] ^ 1]) + key[1:]
    shown = {
        fingerprint(one.user, key),
        fingerprint(one.user, two.sealing.public),
        fingerprint(two.user, key),
        fingerprint(one.user, altered),
        fingerprint(one.user + chr(key[0] & 0x7F), key[1:]),
    }
    assert len(shown) == 5
