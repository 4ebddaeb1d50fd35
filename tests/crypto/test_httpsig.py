"""The signature profile: fixed vectors, every one-character change, and an independent library on both sides."""

import datetime
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSigner,
    HTTPMessageVerifier,
    InvalidSignature,
    MappingKeyResolver,
    algorithms,
)
from hypothesis import given
from hypothesis import strategies as st

from unibus.crypto import httpsig, nkeys
from unibus.errors import SignatureInvalid, SignatureStale, UnibusError, WrongBus

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "http-signatures.json").read_text())
BUS, NOW = VECTORS["bus"], VECTORS["now"]
ALICE = nkeys.SigningKey.from_seed(bytes.fromhex(VECTORS["keys"]["alice"]["seed"]))
URI = "http://node-1.example:8470/v1/rooms?after=0"
NONCE = "AAAAAAAAAAAAAAAAAAAAAA"


def check(case: dict[str, Any]) -> httpsig.Signed:
    """All that can be said of a request without a store or a directory."""
    headers = case["headers"]
    signed = httpsig.parse(headers["Signature-Input"], headers["Signature"], headers.get("Content-Digest"))
    if signed.bus != BUS:
        raise WrongBus
    httpsig.check_fresh(signed.created, NOW)
    httpsig.verify(signed, case["method"], case["target_uri"])
    body = case["body"].encode()
    if signed.digest != (httpsig.content_digest(body) if body else None):
        raise SignatureInvalid
    return signed


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_vectors_hold(case: dict[str, Any]) -> None:
    if case["expect"] == "ok":
        assert check(case).user == ALICE.public
    else:
        with pytest.raises(UnibusError) as caught:
            check(case)
        assert caught.value.code == case["expect"]


def test_signing_gives_the_vectors_to_the_byte() -> None:
    ours = [c for c in VECTORS["cases"] if c["expect"] == "ok" and c["name"] != "parameters in another order"]
    assert len(ours) == 7
    for case in ours:
        signed = check(case)
        headers = httpsig.sign(
            ALICE,
            case["method"],
            case["target_uri"],
            case["body"].encode(),
            bus=BUS,
            created=signed.created,
            nonce=signed.nonce,
            server_nonce=signed.server_nonce,
        )
        assert headers == case["headers"]


def test_the_digest_is_the_one_of_rfc_9530() -> None:
    # Appendix D of the RFC, the body of the first example with its line feed.
    assert httpsig.content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_no_character_of_a_signed_request_can_change() -> None:
    given = "B" * 22
    headers = httpsig.sign(ALICE, "POST", URI, b"body", bus=BUS, created=NOW, nonce=NONCE, server_nonce=given)
    parts = {"method": "POST", "uri": URI, **headers}
    changes = 0
    for name, text in parts.items():
        for at in range(len(text)):
            changed = parts | {name: text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]}
            with pytest.raises(SignatureInvalid):
                httpsig.verify(
                    httpsig.parse(changed["Signature-Input"], changed["Signature"], changed["Content-Digest"]),
                    changed["method"],
                    changed["uri"],
                )
            changes += 1
    assert changes == sum(map(len, parts.values()))


@pytest.mark.parametrize(
    ("body", "digest", "told"),
    [
        (b"", httpsig.content_digest(b""), "must be sent and signed where there is a body"),
        (b"body", None, "must be sent and signed where there is a body"),
        (b"body", "sha-512=:AAAA:", "must be `sha-256=:…:`"),
        (b"body", f"{httpsig.content_digest(b'body')}, sha-512=:AAAA:", "must be `sha-256=:…:`"),
    ],
    ids=["not covered", "not sent", "another hash", "two hashes"],
)
def test_what_is_wrong_with_a_digest_is_told_before_any_body_is_read(
    body: bytes, digest: str | None, told: str
) -> None:
    headers = httpsig.sign(ALICE, "POST", URI, body, bus=BUS, created=NOW, nonce=NONCE)
    with pytest.raises(SignatureInvalid, match=told):
        httpsig.parse(headers["Signature-Input"], headers["Signature"], digest)


@given(st.text(), st.text(), st.none() | st.text())
def test_parsing_refuses_any_text_by_name(signature_input: str, signature: str, digest: str | None) -> None:
    with pytest.raises(SignatureInvalid):
        httpsig.parse(signature_input, signature, digest)


@pytest.mark.parametrize(("age", "fresh"), [(60, True), (-60, True), (60.5, False), (-60.5, False)])
def test_the_window_is_60_seconds_each_way(age: float, fresh: bool) -> None:
    if fresh:
        httpsig.check_fresh(NOW, NOW + age)
    else:
        with pytest.raises(SignatureStale) as caught:
            httpsig.check_fresh(NOW, NOW + age)
        assert caught.value.extra["server_time"] == int(NOW + age)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bus": "short"},
        {"nonce": 'A" x="'},
        {"server_nonce": ""},
        {"server_nonce": "B" * 21},
        {"server_nonce": "B" * 23},
        {"server_nonce": "B" * 22 + "." + "B" * 22},
        {"server_nonce": "B" * 21 + "\n"},
        {"server_nonce": 'B";alg="none";x="'},
        {"created": 0},
        {"method": "get"},
        {"target_uri": "/v1/rooms"},
        {"target_uri": "http://h/a b"},
        {"target_uri": "http://h/é"},
        {"target_uri": 'http://h/\n"@method": POST'},
    ],
    ids=str,
)
def test_nothing_outside_the_profile_gets_signed(wrong: dict[str, Any]) -> None:
    arguments = {"method": "GET", "target_uri": URI, "body": b"", "bus": BUS, "created": NOW, "nonce": NONCE}
    with pytest.raises(SignatureInvalid):
        httpsig.sign(ALICE, **(arguments | wrong))


PUBLIC = Ed25519PublicKey.from_public_bytes(nkeys.decode_public(ALICE.public))
KEYS = MappingKeyResolver(
    public_keys={ALICE.public: PUBLIC},
    private_keys={ALICE.public: Ed25519PrivateKey.from_private_bytes(ALICE.seed)},
)


@pytest.mark.parametrize("given", [None, "B" * 22])
@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b'{"record":"x"}')])
def test_another_implementation_verifies_what_we_sign(method: str, body: bytes, given: str | None) -> None:
    now = int(datetime.datetime.now(datetime.UTC).timestamp())  # the library reads the clock itself
    headers = httpsig.sign(ALICE, method, URI, body, bus=BUS, created=now, nonce=NONCE, server_nonce=given)
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=KEYS)

    def verify(url: str) -> list[Any]:
        message = SimpleNamespace(method=method, url=url, headers=headers)
        window = datetime.timedelta(seconds=httpsig.WINDOW)
        found: list[Any] = verifier.verify(message, max_age=window, expect_tag=f"unibus:{BUS}", body=body)
        return found

    [result] = verify(URI)
    assert result.parameters["keyid"] == ALICE.public
    assert result.nonce == (NONCE if given is None else f"{NONCE}.{given}")
    assert ('"content-digest"' in result.covered_components) == bool(body)
    with pytest.raises(InvalidSignature):
        verify(URI + "1")


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", b'{"record":"x"}')])
def test_we_verify_what_another_implementation_signs(method: str, body: bytes | None) -> None:
    message = SimpleNamespace(method=method, url=URI, headers={})
    HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=KEYS).sign(
        message,
        key_id=ALICE.public,
        created=datetime.datetime.fromtimestamp(NOW, datetime.UTC),
        nonce=NONCE,
        label="unibus",
        tag=f"unibus:{BUS}",
        covered_component_ids=("@method", "@target-uri"),
        body=body,
    )
    headers = message.headers
    signed = httpsig.parse(headers["Signature-Input"], headers["Signature"], headers.get("Content-Digest"))
    httpsig.verify(signed, method, URI)
    assert signed[:4] == (ALICE.public, NOW, NONCE, BUS)
    assert signed.digest == (httpsig.content_digest(body) if body else None)
