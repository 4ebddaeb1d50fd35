"""Conditions and ranges, one row each (RFC 9110 sections 13 and 14): what is asked, and what is sent."""

import pytest

from unibus.http.ranges import NotModified, Slice, Unsatisfiable, choose

TAG = '"id"'
WHOLE = (0, 100)


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        (None, WHOLE),
        ("bytes=0-", (0, 100)),
        ("bytes=0-0", (0, 1)),
        ("bytes=99-99", (99, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=10-1000", (10, 100)),
        ("bytes=-1", (99, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=0-999999999999999999", (0, 100)),
        ("bytes=100-", None),
        ("bytes=100-200", None),
        ("bytes=-0", None),
        ("bytes=999999999999999999-", None),
    ],
)
def test_one_range(wanted: str | None, sent: tuple[int, int] | None) -> None:
    found = choose(100, TAG, wanted=wanted, if_none_match=None, if_range=None)
    if sent is None:
        assert isinstance(found, Unsatisfiable)
    else:
        assert found == Slice(*sent, partial=wanted is not None)


@pytest.mark.parametrize(
    "wanted",
    [
        "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=0-0,-1", "bytes=0-,0-,0-,0-", "items=0-1",
        "bytes=--1", "bytes=+1-2", "bytes=0x1-2", "bytes= 0-1", "bytes=٠-١", "bytes=" + "9" * 5000 + "-",
        "bytes=0-" + "9" * 5000,
    ],
    ids=lambda text: ascii(text)[:24],
)  # fmt: skip
def test_what_is_no_range_of_ours_is_ignored(wanted: str) -> None:
    assert choose(100, TAG, wanted=wanted, if_none_match=None, if_range=None) == Slice(0, 100, partial=False)


@pytest.mark.parametrize("if_range", ['"other"', 'W/"id"', "Mon, 23 Nov 2026 12:00:00 GMT", ""])
def test_a_range_of_something_else_is_the_whole(if_range: str) -> None:
    found = choose(100, TAG, wanted="bytes=1-", if_none_match=None, if_range=if_range)
    assert found == Slice(0, 100, partial=False)


def test_a_range_of_this() -> None:
    assert choose(100, TAG, wanted="bytes=1-", if_none_match=None, if_range=TAG) == Slice(1, 100, partial=True)


@pytest.mark.parametrize("known", [TAG, 'W/"id"', '"other", "id"', '"other",W/"id"', "*"])
def test_who_has_it_gets_nothing(known: str) -> None:
    assert isinstance(choose(100, TAG, wanted="bytes=1-", if_none_match=known, if_range=None), NotModified)


@pytest.mark.parametrize("known", ['"other"', "id", "", '"i', 'id"'])
def test_who_has_something_else_gets_it(known: str) -> None:
    assert choose(100, TAG, wanted=None, if_none_match=known, if_range=None) == Slice(0, 100, partial=False)
