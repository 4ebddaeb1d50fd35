"""Room keys: one key an epoch, the same for all, and nothing made for one place opens in another."""

import hashlib
import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import identity
from unibus.crypto.encoding import b64u
from unibus.crypto.roomkey import (
    EpochRef,
    commitment,
    follow_link,
    link,
    open_sealed,
    seal_to,
    sealed_digest,
)
from unibus.crypto.sealing import seal
from unibus.errors import SealedKeyInvalid

ADA, BOB = identity("ada"), identity("bob")
EPOCH = EpochRef(b64u(bytes(32)), "a" * 26, 2)
BEFORE = replace(EPOCH, number=1)
KEY, OLD = bytes(range(32)), bytes(range(32, 64))
ELSEWHERE = [
    replace(EPOCH, bus=b64u(b"\1" * 32)),
    replace(EPOCH, room="b" * 26),
    replace(EPOCH, number=3),
    replace(EPOCH, number=1),
]


def test_a_sealed_key_opens_to_the_key_of_the_record() -> None:
    assert open_sealed(ADA, seal_to(KEY, EPOCH, ADA.user, ADA.sealing.public), EPOCH, commitment(KEY, EPOCH)) == KEY


@pytest.mark.parametrize("other", ELSEWHERE)
def test_a_sealed_key_opens_in_no_other_place(other: EpochRef) -> None:
    sealed = seal_to(KEY, EPOCH, ADA.user, ADA.sealing.public)
    with pytest.raises(SealedKeyInvalid):
        open_sealed(ADA, sealed, other, commitment(KEY, other))


def test_a_key_sealed_to_another_does_not_open_even_if_handed_over() -> None:
    # Sealed to Ada's key but for Bob: a server cannot swap entries, nor a member pass one off as somebody else's.
    with pytest.raises(SealedKeyInvalid):
        open_sealed(ADA, seal_to(KEY, EPOCH, BOB.user, ADA.sealing.public), EPOCH, commitment(KEY, EPOCH))
    with pytest.raises(SealedKeyInvalid):
        open_sealed(ADA, seal_to(KEY, EPOCH, BOB.user, BOB.sealing.public), EPOCH, commitment(KEY, EPOCH))


def test_a_member_cannot_give_one_person_another_key() -> None:
    sealed = seal_to(OLD, EPOCH, ADA.user, ADA.sealing.public)
    with pytest.raises(SealedKeyInvalid, match="another key than the record says"):
        open_sealed(ADA, sealed, EPOCH, commitment(KEY, EPOCH))


def test_a_key_of_another_length_does_not_open() -> None:
    # HMAC pads keys with zeros: a key and the same with a zero after it would have one commitment.
    info = EPOCH.bind("unibus sealed key v1", ADA.user)
    for key in (KEY[:31], KEY + b"\0", b""):
        with pytest.raises(SealedKeyInvalid):
            open_sealed(ADA, seal(ADA.sealing.public, key, info), EPOCH, commitment(KEY, EPOCH))


def test_the_commitment_is_an_hmac_of_the_place() -> None:
    parts = [b"unibus epoch commitment v1", EPOCH.bus.encode(), EPOCH.room.encode(), (2).to_bytes(8, "big")]
    message = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert commitment(KEY, EPOCH) == hmac.new(KEY, message, hashlib.sha256).digest()
    assert len({commitment(KEY, place) for place in [EPOCH, *ELSEWHERE]}) == 5


def test_a_link_leads_to_the_key_before() -> None:
    linked = link(KEY, EPOCH, OLD)
    assert len(linked) == 48
    assert follow_link(KEY, EPOCH, linked, commitment(OLD, BEFORE)) == OLD


@pytest.mark.parametrize("other", ELSEWHERE[:3])
def test_a_link_leads_nowhere_from_another_place(other: EpochRef) -> None:
    with pytest.raises(SealedKeyInvalid, match="does not open"):
        follow_link(KEY, other, link(KEY, EPOCH, OLD), commitment(OLD, BEFORE))


def test_a_link_to_another_key_than_the_log_says_is_refused() -> None:
    with pytest.raises(SealedKeyInvalid, match="another key"):
        follow_link(KEY, EPOCH, link(KEY, EPOCH, KEY), commitment(OLD, BEFORE))


def test_who_has_only_the_old_key_cannot_go_forward() -> None:
    with pytest.raises(SealedKeyInvalid):
        follow_link(OLD, EPOCH, link(KEY, EPOCH, OLD), commitment(KEY, EPOCH))


@given(st.binary(max_size=60))
def test_arbitrary_links_are_one_error(linked: bytes) -> None:
    with pytest.raises(SealedKeyInvalid):
        follow_link(KEY, EPOCH, linked, commitment(OLD, BEFORE))


@given(st.dictionaries(st.sampled_from([ADA.user, BOB.user, identity("cyd").user]), st.binary(max_size=5)))
def test_the_digest_covers_every_key_and_recipient(sealed: dict[str, bytes]) -> None:
    digest = sealed_digest(sealed)
    assert sealed_digest(dict(reversed(sealed.items()))) == digest
    for user, old in sealed.items():
        assert sealed_digest({**sealed, user: old + b"\0"}) != digest
        assert sealed_digest({u: key for u, key in sealed.items() if u != user}) != digest
    assert sealed_digest({**sealed, "U" + "A" * 55: b""}) != digest


def test_the_digest_notices_exchanged_keys() -> None:
    assert sealed_digest({ADA.user: b"1", BOB.user: b"2"}) != sealed_digest({ADA.user: b"2", BOB.user: b"1"})
