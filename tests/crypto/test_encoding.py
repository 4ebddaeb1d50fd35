"""One text for one value: base64url, JSON and transcripts take nothing that another reader might read otherwise."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unibus.crypto.encoding import b64u, dump_json, load_json, transcript, unb64u
from unibus.errors import InvalidInput


@given(st.binary(max_size=200))
def test_base64url_comes_back(data: bytes) -> None:
    assert unb64u(b64u(data)) == data
    assert unb64u(b64u(data).encode(), size=len(data)) == data


@given(st.one_of(st.text(max_size=50), st.binary(max_size=50), st.text("AQgw-_+/= \n", max_size=8)))
def test_whatever_decodes_is_the_one_text_of_its_bytes(text: str | bytes) -> None:
    try:
        data = unb64u(text)
    except InvalidInput:
        return
    assert b64u(data) == (text if isinstance(text, str) else text.decode())


@pytest.mark.parametrize(
    "text",
    ["AA==", "AB", "A", "A+/A", "AA\n", " AA", "A A", "ÄA", "\ud800", "AAA=", "====", "Q\u200bQ"],  # noqa: RUF100, RUF001 - look-alikes are the point
)
def test_look_alikes_of_base64url_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        unb64u(text)


def test_a_wrong_size_is_refused() -> None:
    with pytest.raises(InvalidInput, match="expected 32 bytes, got 31"):
        unb64u(b64u(bytes(31)), size=32)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab\u00e9", max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_comes_back(value: object) -> None:
    assert load_json(dump_json(value)) == value


@given(st.one_of(st.binary(max_size=60), st.text('{}[]",:\\u0123dDeE+-. truefalsn', max_size=30)))
def test_arbitrary_json_reads_as_elsewhere_or_is_refused(data: bytes | str) -> None:
    try:
        value = load_json(data)
    except InvalidInput:
        return
    assert json.loads(data if isinstance(data, str) else data.decode("utf-8")) == value


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":2}',
        b'{"o":{"a":1,"\\u0061":2}}',
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[-1e400]",
        b"\xef\xbb\xbf{}",
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32-be"),
        b'"\xed\xa0\x80"',
        b'"\xff"',
        b'"\xc0\xaf"',
        b"{} {}",
        b"{'a':1}",
        b"[1,]",
        b"",
        b"[" * 60_000,
        b'{"a":' * 30_000,
        b"9" * 60_000,
    ],
    ids=lambda data: repr(data[:14]),
)
def test_json_that_readers_take_differently_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        load_json(data)


def test_canonical_json_is_compact_sorted_utf8() -> None:
    assert dump_json({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_json(float("nan"))


@given(st.lists(st.text("ab", max_size=3), max_size=4), st.lists(st.text("ab", max_size=3), max_size=4))
def test_transcripts_of_different_parts_differ(left: list[str], right: list[str]) -> None:
    assert (transcript("l", *left) == transcript("l", *right)) == (left == right)


def test_a_transcript_is_length_prefixed_parts() -> None:
    expected = "00000002" + b"hi".hex() + "00000001" + "61" + "00000000" + "00000008" + "0000000000000007"
    assert transcript("hi", "a", b"", 7).hex() == expected
    assert transcript("a", "b") != transcript("ab")


def test_the_encoders_agree_with_the_standard_library() -> None:
    data = bytes(range(256))
    assert b64u(data) == base64.urlsafe_b64encode(data).decode().rstrip("=")
    assert json.loads(dump_json({"x": [1, "ü"]})) == {"x": [1, "ü"]}
