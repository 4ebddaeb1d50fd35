"""HPKE sealing: opens for the one recipient in the one place, and anything else is one named error."""

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import identity
from unibus.crypto import sealing
from unibus.crypto.sealing import PUBLIC_BYTES, SEALED_BYTES, SealingKey
from unibus.errors import InvalidInput, SealedKeyInvalid

ADA, BOB = identity("ada").sealing, identity("bob").sealing
SECRET = bytes(range(32))
PROBE = X25519PrivateKey.from_private_bytes(bytes(32))
EIGHTH_ORDER = (  # RFC 7748 section 6.1 refers to https://cr.yp.to/ecdh.html#validate, which lists them
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
SEALED = sealing.seal(ADA.public, SECRET, b"info")


def test_what_is_sealed_opens_for_its_recipient_only() -> None:
    assert len(SEALED) == SEALED_BYTES
    assert ADA.open(SEALED, b"info") == SECRET
    with pytest.raises(SealedKeyInvalid):
        BOB.open(SEALED, b"info")


@pytest.mark.parametrize("info", [b"", b"inf", b"info\0", b"INFO"])
def test_it_opens_nowhere_else(info: bytes) -> None:
    with pytest.raises(SealedKeyInvalid):
        ADA.open(SEALED, info)


def test_sealing_twice_shows_nothing_in_common() -> None:
    again = sealing.seal(ADA.public, SECRET, b"info")
    assert again[:7] == SEALED[:7]
    assert again[7:1127] != SEALED[7:1127]
    assert again[1127:] != SEALED[1127:]
    assert SECRET not in SEALED


def test_the_header_names_version_and_suite() -> None:
    # RFC 9180 section 7: HKDF-SHA256 is 0x0001, AES-256-GCM is 0x0002; MLKEM768-X25519 is 0x647a.
    assert SEALED[:7].hex() == "01" + "647a" + "0001" + "0002"


@settings(deadline=None, max_examples=60)
@given(st.integers(0, SEALED_BYTES - 1), st.integers(1, 255))
def test_every_changed_byte_is_noticed(place: int, flip: int) -> None:
    with pytest.raises(SealedKeyInvalid):
        ADA.open(SEALED[:place] + bytes([SEALED[place] ^ flip]) + SEALED[place + 1 :], b"info")


@given(st.binary(max_size=40))
def test_other_lengths_are_refused(data: bytes) -> None:
    for sealed in (data, SEALED[:7] + data, SEALED + data + b"\0"):
        with pytest.raises(SealedKeyInvalid, match="unknown form"):
            ADA.open(sealed, b"info")


@given(st.binary(max_size=40))
def test_what_is_no_public_key_is_refused(data: bytes) -> None:
    for public in (data, ADA.public + data + b"\0", ADA.public[:-1]):
        with pytest.raises(InvalidInput):
            sealing.seal(public, SECRET, b"")
    assert sealing.check_public(ADA.public) == ADA.public


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 767), st.sampled_from([0, 3328, 3329, 3330, 4095]) | st.integers(0, 4095))
def test_a_coefficient_is_below_q(place: int, value: int) -> None:
    bits = int.from_bytes(ADA.public[:1152], "little") & ~(0xFFF << 12 * place) | value << 12 * place
    public = bits.to_bytes(1152, "little") + ADA.public[1152:]
    assert usable(public) == (value < 3329) == readable(public)


@pytest.mark.parametrize("highest_bit", [0, 1 << 255])
@pytest.mark.parametrize("near", [0, 2**255 - 19, 2**255, *EIGHTH_ORDER])
def test_only_points_of_small_order_cannot_be_sealed_to(near: int, highest_bit: int) -> None:
    for point in range(max(0, near - 20), min(near + 3, 2**255)):
        classical = (point | highest_bit).to_bytes(32, "little")
        assert usable(ADA.public[:1184] + classical) == shared(classical)


def usable(public: bytes) -> bool:
    try:
        return sealing.check_public(public) == public
    except InvalidInput:
        return False


def readable(public: bytes) -> bool:
    try:
        return MLKEM768PublicKey.from_public_bytes(public[:1184]) is not None
    except ValueError:
        return False


def shared(classical: bytes) -> bool:
    try:
        return bool(PROBE.exchange(X25519PublicKey.from_public_bytes(classical)))
    except ValueError:
        return False


def test_a_seed_expands_to_both_halves() -> None:
    one, other = SealingKey.from_seed(bytes(32)), SealingKey.from_seed(bytes(31) + b"\1")
    assert len(one.public) == PUBLIC_BYTES
    assert one.public[:1184] != other.public[:1184]
    assert one.public[1184:] != other.public[1184:]
    assert SealingKey.from_seed(bytes(32)).public == one.public
