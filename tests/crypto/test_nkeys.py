"""NATS nkeys: the reference's own text, RFC 8032's own keys, and everything that only looks like one."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey as LibsodiumKey

from tests.builders import identity
from unibus.crypto import nkeys
from unibus.crypto.encoding import b64u
from unibus.crypto.heads import EMPTY
from unibus.errors import InvalidInput
from unibus.model.bodies import UserRevoke
from unibus.model.records import DIRECTORY, write_record

# RFC 8032 section 7.1: secret key, public key, message, signature.
RFC8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
# The order of the group (RFC 8032 section 5.1), for a second S of one signature.
ORDER = 2**252 + 27742317777372353535851937790883648493


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC8032)
def test_rfc_8032_signatures(secret: str, public: str, message: str, signature: str) -> None:
    key = nkeys.SigningKey.from_seed(bytes.fromhex(secret))
    assert nkeys.decode_public(key.public).hex() == public
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert nkeys.verify(key.public, bytes.fromhex(message), bytes.fromhex(signature))


def test_the_sample_of_the_nats_documentation() -> None:
    seed = nkeys.decode_seed("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY")
    assert nkeys.SigningKey.from_seed(seed).public == "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_the_text_of_a_key_starts_with_its_kind() -> None:
    for kind in "UANX":
        public = nkeys.encode_public(kind, bytes(range(32)))
        seed = nkeys.encode_seed(kind, bytes(range(32)))
        assert (public[0], len(public)) == (kind, 56)
        assert (seed[:2], len(seed)) == ("S" + kind, 58)
        assert nkeys.decode_public(public, kind) == nkeys.decode_seed(seed, kind) == bytes(range(32))


@given(st.binary(min_size=32, max_size=32))
def test_three_libraries_agree_on_a_seed(seed: bytes) -> None:
    key = nkeys.SigningKey.from_seed(seed)
    raw = nkeys.decode_public(key.public)
    assert raw == bytes(LibsodiumKey(seed).verify_key)
    assert raw == Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert nkeys.verify(key.public, b"text", LibsodiumKey(seed).sign(b"text").signature)
    assert nkeys.decode_seed(nkeys.encode_seed("U", seed)) == seed


@given(st.one_of(st.text(max_size=70), st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567=", max_size=70)))
def test_arbitrary_text_is_no_key(text: str) -> None:
    for decode in (nkeys.decode_public, nkeys.decode_seed):
        with pytest.raises(InvalidInput):
            decode(text)
    assert not nkeys.verify(text, b"message", bytes(64))


@given(st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567abz018=_+-!\u0662 \n"))
def test_one_changed_character_is_noticed(place: int, character: str) -> None:
    text = identity("ada").user
    changed = text[:place] + character + text[place + 1 :]
    if changed != text:
        with pytest.raises(InvalidInput):
            nkeys.decode_public(changed)


@pytest.mark.parametrize(
    "change",
    [
        str.lower,
        lambda t: t + "=",
        lambda t: t + "\n",
        lambda t: t[:-1],
        lambda t: t * 2,
        # Texts of the same number, were it read as Python reads one.
        lambda t: " " + t,
        lambda t: "+" + t,
        lambda t: t[:9] + "_" + t[9:],
        lambda t: "A" * 8 + t,
    ],
)
def test_look_alikes_of_a_key_are_refused(change) -> None:  # type: ignore[no-untyped-def]  # a table of functions
    with pytest.raises(InvalidInput):
        nkeys.decode_public(change(identity("ada").user))


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInput, match="starts with U"):
        nkeys.decode_public(nkeys.encode_public("A", bytes(32)))
    with pytest.raises(InvalidInput, match="starts with SU"):
        nkeys.decode_seed(nkeys.encode_seed("A", bytes(32)))
    with pytest.raises(InvalidInput):
        nkeys.decode_seed(identity("ada").user)


def test_a_seed_has_one_text_only() -> None:
    # 36 bytes leave two unused bits in the last character, which base32 decoders ignore.
    seed = identity("ada").seed
    others = [seed[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" if last != seed[-1]]
    for other in others:
        with pytest.raises(InvalidInput):
            nkeys.decode_seed(other)
    assert len(others) == 31


def test_errors_and_reprs_never_show_a_secret() -> None:
    ada = identity("ada")
    with pytest.raises(InvalidInput) as caught:
        nkeys.decode_seed(ada.seed[:-1] + ("A" if ada.seed[-1] != "A" else "B"))
    assert ada.seed[2:20] not in str(caught.value)
    for shown in (repr(ada), repr(ada.signing), str(ada.sealing)):
        assert ada.seed not in shown
        assert ada.signing.seed.hex() not in shown
        assert repr(ada.signing.seed) not in shown


def test_a_signature_has_one_form_only() -> None:
    # S + order verifies under the bare equation (RFC 8032 section 5.1.7): it would be a second text of one record.
    key = identity("ada").signing
    signature = key.sign(b"message")
    second = int.from_bytes(signature[32:], "little") + ORDER
    assert nkeys.verify(key.public, b"message", signature)
    assert not nkeys.verify(key.public, b"message", signature[:32] + second.to_bytes(32, "little"))
    assert not nkeys.verify(key.public, b"message", signature + b"\0")
    assert not nkeys.verify(key.public, b"message", signature[:-1])
    assert not nkeys.verify(key.public, b"message", b"")


@pytest.mark.parametrize(
    "point",
    [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ],
)
def test_a_key_of_small_order_signs_nothing(point: str) -> None:
    # Under such a key one signature holds for any message: its owner could deny, or exchange, what was signed.
    public = nkeys.encode_public("U", bytes.fromhex(point))
    identity_point = b"\1" + bytes(31)
    for signature in (identity_point + bytes(32), bytes.fromhex(point) + bytes(32)):
        assert not any(nkeys.verify(public, message, signature) for message in (b"", b"a", b"b", b"c", b"d"))


def test_a_server_gets_nothing_but_a_nonce_signed() -> None:
    ada = identity("ada")
    assert nkeys.verify(ada.user, b"WBxDNmlzYqVUJdI", ada.signing.sign_nonce(b"WBxDNmlzYqVUJdI"))
    record = write_record(ada.signing, b64u(bytes(32)), DIRECTORY, EMPTY, UserRevoke(user=ada.user), at=0)
    signing_input = record.rpartition(b".")[0]
    for wanted in (signing_input, b"", b"a.b", b"a\n", b'"@method": GET', b"a" * 65, b"\0\0\0\x0funibus frame v1"):
        with pytest.raises(InvalidInput, match="not a nonce"):
            ada.signing.sign_nonce(wanted)
