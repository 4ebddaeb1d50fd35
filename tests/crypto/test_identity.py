"""Identities and cards: nobody can pair another's signing key with a sealing key of their own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign_SEEDBYTES

from tests.builders import identity
from tests.forging import card, keyed
from unibus.crypto import jws, sealing
from unibus.crypto.encoding import b64u, dump_json
from unibus.crypto.identity import CARD_TYP, Identity, read_card
from unibus.errors import InvalidInput

ADA, BOB = identity("ada"), identity("bob")
# X25519 points of small order (RFC 7748 section 6.1), for which every shared secret is zero.
SMALL_ORDER = [
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f",
]


def test_one_seed_gives_one_identity() -> None:
    again = Identity.from_seed(ADA.seed)
    assert (again.user, again.sealing.public, again.card()) == (ADA.user, ADA.sealing.public, ADA.card())
    assert ADA.user != BOB.user
    assert ADA.sealing.public != BOB.sealing.public
    assert len(ADA.signing.seed) == crypto_sign_SEEDBYTES


def test_a_card_reads_back() -> None:
    read = read_card(ADA.card())
    assert (read.user, read.sealing, read.text) == (ADA.user, ADA.sealing.public, ADA.card())
    assert card() == ADA.card()


@pytest.mark.parametrize(
    "text",
    [
        card("bob"),
        card("bob", user=ADA.user),
        card(user=BOB.user),
        card(typ="unibus-record+jws"),
        card(v=2),
        card(v=True),
        card(v=1.0),
        card(v="1"),
        card(handle="ada"),
        card(sealing=keyed(ADA.sealing.public, more=1)),
        card(sealing=keyed(ADA.sealing.public, suite="X25519")),
        card(sealing=keyed(ADA.sealing.public[:-1])),
        card(sealing=keyed(ADA.sealing.public + b"\0")),
        card(sealing=keyed(b"\xff" * 1184 + ADA.sealing.public[1184:])),
        card(sealing={"key": 7, "suite": sealing.SUITE}),
        card(sealing={"key": b64u(ADA.sealing.public) + "=", "suite": sealing.SUITE}),
        card(sealing=b64u(ADA.sealing.public)),
        ADA.card()[:-1],
        ADA.card() + "\n",
        ADA.card() + "ä",
        ADA.card() + "\ud800",
        "",
        ADA.user,
    ],
    ids=range(23),
)
def test_a_card_that_leaves_doubt_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_card(text)


@pytest.mark.parametrize("point", SMALL_ORDER)
def test_a_card_that_cannot_be_sealed_to_is_refused(point: str) -> None:
    # Else its owner, once in a room, could make every later key, and so their own removal, impossible to seal.
    with pytest.raises(InvalidInput, match="not a sealing key"):
        read_card(card(sealing=keyed(ADA.sealing.public[:1184] + bytes.fromhex(point))))


@given(st.integers(0, len(ADA.card()) - 1), st.sampled_from("ABCXYZabcxyz0189-_.=+/ "))
def test_every_changed_character_is_noticed(place: int, character: str) -> None:
    changed = ADA.card()[:place] + character + ADA.card()[place + 1 :]
    if changed != ADA.card():
        with pytest.raises(InvalidInput):
            read_card(changed)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda x: st.dictionaries(st.sampled_from(["v", "user", "sealing", "key", "suite"]), x),
    )
)
def test_an_arbitrary_signed_payload_is_no_card(payload: object) -> None:
    try:
        raw = dump_json(payload)
    except UnicodeEncodeError:  # a lone surrogate, which cannot be sent either
        return
    with pytest.raises(InvalidInput):
        read_card(jws.sign(ADA.signing, CARD_TYP, raw).decode())
