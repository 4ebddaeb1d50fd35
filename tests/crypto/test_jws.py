"""Compact JWS, narrowed: any JOSE tool reads ours, and ours reads nothing that leaves a choice to the reader."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws as jose
from joserfc.jwk import OKPKey

from tests.builders import identity
from tests.forging import header, token
from unibus.crypto import jws, nkeys
from unibus.crypto.encoding import b64u, dump_json
from unibus.errors import MalformedRecord

TYP = "unibus-record+jws"
ADA = identity("ada")
TOKEN = jws.sign(ADA.signing, TYP, b'{"a":1}')


# RFC 9864 prefers the name Ed25519 to EdDSA; the library says so, and reads both.
@pytest.mark.filterwarnings("ignore:EdDSA is deprecated:joserfc.errors.SecurityWarning")
def test_another_jose_library_reads_ours_and_we_read_theirs() -> None:
    raw = nkeys.decode_public(ADA.user)
    public = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": b64u(raw)})
    read = jose.deserialize_compact(TOKEN, public, algorithms=["EdDSA"])
    assert (read.payload, read.headers()) == (b'{"a":1}', header())

    private = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": b64u(raw), "d": b64u(ADA.signing.seed)})
    theirs = jose.serialize_compact(dict(header()), b"{}", private, algorithms=["EdDSA"])
    assert jws.verify_compact(theirs.encode(), TYP) == jws.Verified(ADA.user, b"{}")


def test_what_is_signed_reads_back() -> None:
    assert jws.verify_compact(TOKEN, TYP) == jws.Verified(ADA.user, b'{"a":1}')
    assert jws.verify_compact(token(header(), {}), TYP).payload == b"{}"


@pytest.mark.parametrize(
    "changed",
    [
        header(alg="none"),
        header(alg="HS256"),
        header(alg="Ed25519"),
        header(alg="eddsa"),
        header(alg=None),
        header(typ="JWT"),
        header(typ="unibus-card+jws"),
        header(typ=TYP.upper()),
        header(crit=["exp"]),
        header(crit=[]),
        header(jwk={"kty": "OKP"}),
        header(b64=False),
        header(kid=identity("bob").user),
        header(kid=ADA.user.lower()),
        header(kid=[ADA.user]),
        header(kid=None),
        header(kid=nkeys.encode_public("A", nkeys.decode_public(ADA.user))),
        {"alg": "EdDSA", "kid": ADA.user},
        {},
        [],
        "EdDSA",
        None,
    ],
    ids=repr,
)
def test_any_other_header_is_refused(changed: object) -> None:
    with pytest.raises(MalformedRecord):
        jws.verify_compact(token(changed, {}), TYP)


def test_a_header_that_readers_may_take_differently_is_refused() -> None:
    twice = dump_json(header())[:-1] + b',"typ":"' + TYP.encode() + b'"}'
    for raw in (twice, dump_json(header()).decode().encode("utf-16"), b"\xef\xbb\xbf" + dump_json(header())):
        with pytest.raises(MalformedRecord):
            jws.verify_compact(token(raw, {}), TYP)


def test_another_text_of_the_same_bytes_is_refused() -> None:
    head, body, signature = TOKEN.split(b".")
    # 64 bytes end in four unused bits: fifteen other last characters stand for the same signature.
    for last in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        other = signature[:-1] + bytes([last])
        if other != signature:
            with pytest.raises(MalformedRecord):
                jws.verify_compact(b".".join((head, body, other)), TYP)
    for other_token in (
        TOKEN + b"==",
        TOKEN + b"\n",
        b" " + TOKEN,
        TOKEN.replace(b".", b"..", 1),
        TOKEN + b".",
        b"." + TOKEN,
    ):
        with pytest.raises(MalformedRecord):
            jws.verify_compact(other_token, TYP)


def test_swapped_parts_are_refused() -> None:
    head, _, signature = TOKEN.split(b".")
    for parts in (
        (head, b64u(b'{"a":2}').encode(), signature),
        (head, b"", signature),
        (head, b64u(b'{"a":1}').encode(), b""),
        (head, b64u(b'{"a":1}').encode()),
        (b64u(dump_json(header(alg="none"))).encode(), b64u(b'{"a":1}').encode(), b""),
    ):
        with pytest.raises(MalformedRecord):
            jws.verify_compact(b".".join(parts), TYP)


def test_a_token_is_bounded() -> None:
    with pytest.raises(MalformedRecord, match="65536"):
        jws.verify_compact(jws.sign(ADA.signing, TYP, bytes(60_000)), TYP)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedRecord):
        jws.verify_compact(data, TYP)


@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 255))
def test_every_changed_byte_is_noticed(place: int, flip: int) -> None:
    changed = TOKEN[:place] + bytes([TOKEN[place] ^ flip]) + TOKEN[place + 1 :]
    with pytest.raises(MalformedRecord):
        jws.verify_compact(changed, TYP)


@given(st.binary(max_size=120))
def test_arbitrary_signed_headers_raise_nothing_else(raw: bytes) -> None:
    with pytest.raises(MalformedRecord):
        jws.verify_compact(token(raw, {}), TYP)
