"""Names: what becomes a subject, a path or a word on somebody's screen is right as it stands, or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unibus.errors import InvalidInput
from unibus.model.names import check_handle, check_room_id, check_room_name, check_token


@pytest.mark.parametrize("text", ["a", "0", "ada", "ada.l-2_x", "a" * 32])
def test_handles(text: str) -> None:
    assert check_handle(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "Ada", ".ada", "-ada", "_ada", "ada ", "ada\n", "a" * 33, "a*b", "a>b", "a/b", "аda", "ada\0", "ä", "a\u0301"],
)
def test_what_is_no_handle(text: str) -> None:
    with pytest.raises(InvalidInput, match="a handle is"):
        check_handle(text)


@pytest.mark.parametrize(
    "text", ["a" * 25, "a" * 27, "A" * 26, "a" * 25 + "1", "a" * 26 + "\n", "a" * 25 + "*", "../" + "a" * 23]
)
def test_what_is_no_room_id(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_room_id(text)


@pytest.mark.parametrize("text", ["a" * 21, "a" * 44, "a" * 21 + ".", "a" * 21 + ">", "a" * 22 + "\n"])
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_token(text)


@given(st.text(max_size=70))
def test_names_that_pass_cannot_leave_their_place_in_a_subject_or_path(text: str) -> None:
    for check in (check_handle, check_room_id, check_token):
        try:
            passed = check(text)
        except InvalidInput:
            continue
        assert passed == text
        assert text.isascii()
        assert not set(text) & set("*> \t\r\n/\\\0")


@pytest.mark.parametrize("text", ["plans", "Züge & Pläne 2", "計画", "a" * 64, "🚂", "rock 'n' roll"])
def test_room_names(text: str) -> None:
    assert check_room_name(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " plans",
        "plans ",
        "a" * 65,
        "a\nb",
        "a\x1b[31mb",
        "a\x00b",
        "a\x7fb",
        "pay\u202eslooc",
        "a\u2066b",
        "a\u200bb",
        "a\u200db",
        "a\ufeffb",
        "a\u00a0b",
        "a\u3000b",
        "a\u2028b",
        "a\ud800b",
        "a\ue000b",
        "a\U000e0041b",
        "cafe\u0301",
        "\u212b",
        "abcdefghijklmnopqrstuvwxyz",
    ],
    ids=ascii,
)
def test_names_that_would_mislead_a_reader_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        check_room_name(text)
