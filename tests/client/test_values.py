"""The small pure parts: acknowledgements, positions, times, back-off, answers to a request for a delivery."""

from datetime import UTC, datetime
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unibus.client.backoff import delays
from unibus.client.messages import Message, Position, from_unix_ms, messages_of_frame, parse_position
from unibus.client.outbox import read_ack
from unibus.client.reader import read_opened
from unibus.errors import InvalidInput, LimitReached, NotFound, UnibusError, Untrusted


@pytest.mark.parametrize(
    ("data", "headers", "outcome"),
    [
        (b'{"stream":"ROOMS","seq":7}', None, 7),
        (b'{"stream":"ROOMS","seq":7,"duplicate":true}', {}, 7),
        (b"", {"Status": "503"}, None),
        (b'{"stream":"ROOMS","seq":7}', {"Status": "503"}, None),
        (b'{"error":{"code":503,"err_code":10077,"description":"insufficient resources"},"seq":0}', None, None),
        (b'{"seq":0}', None, None),
        (b'{"seq":-1}', None, None),
        (b'{"seq":"7"}', None, None),
        (b"{}", None, None),
        (b"[7]", None, None),
        (b"not json", None, None),
        (b"\xff\xfe", None, None),
        (b"[" * 100_000, None, None),
    ],
    ids=lambda value: str(value)[:50],
)
def test_an_acknowledgement_is_a_number_or_nothing_yet(
    data: bytes, headers: dict[str, str] | None, outcome: int | None
) -> None:
    assert read_ack(data, headers) == outcome


def test_a_refusal_that_will_not_change_is_told_in_the_buss_words() -> None:
    refused = read_ack(b'{"error":{"code":400,"description":"message size exceeds maximum allowed"},"seq":0}', None)
    assert isinstance(refused, LimitReached)
    assert "message size exceeds maximum allowed" in refused.message


@given(st.integers(0, 2**63), st.integers(0, 4095))
def test_a_position_reads_back(sequence: int, offset: int) -> None:
    assert parse_position(str(Position(sequence, offset))) == Position(sequence, offset)


def test_positions_sort_as_messages_came() -> None:
    assert Position(2, 9) < Position(10, 0) < Position(10, 1)


@given(st.lists(st.binary(max_size=3), max_size=5), st.integers(0, 6))
def test_a_frames_messages_come_from_an_offset_on_each_with_its_place(data: list[bytes], first: int) -> None:
    at = datetime(2027, 1, 15, tzinfo=UTC)
    shown = list(messages_of_frame("room", "UADA", "ada", at, 17, tuple(data), first))
    assert shown == [Message("room", "UADA", "ada", data[n], at, Position(17, n)) for n in range(first, len(data))]
    assert all(type(message) is Message and type(message.position) is Position for message in shown)


@pytest.mark.parametrize("text", ["", "17", "17.", ".0", "-1.0", "1.0.0", "1 .0", "²." + "0", "9" * 40 + ".0", "start"])
def test_what_is_no_position_is_refused_by_what_one_looks_like(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"a position looks like 17\.0"):
        parse_position(text)


def test_a_senders_clock_can_say_anything() -> None:
    assert from_unix_ms(1_800_000_000_123) == datetime(2027, 1, 15, 8, 0, 0, 123_000, UTC)
    assert from_unix_ms(2**64 - 1) == datetime(1970, 1, 1, tzinfo=UTC)


def test_waits_grow_to_their_cap_and_stay_between_half_and_all_of_it() -> None:
    longest = list(islice(delays(0.1, 5.0, lambda _, top: top), 9))
    assert longest == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0])
    assert list(islice(delays(0.1, 5.0, lambda low, _: low), 9)) == pytest.approx([wait / 2 for wait in longest])


def test_clients_do_not_wait_in_step() -> None:
    first = [next(delays()) for _ in range(20)]
    assert len(set(first)) > 1
    assert all(0.05 <= wait <= 0.1 for wait in first)
    assert all(late <= 5.0 for _, late in pairwise(islice(delays(), 20)))


def test_an_opened_delivery_names_where_it_begins() -> None:
    assert read_opened(b'{"after":12}') == 12


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b'{"error":{"code":"not-found","message":"there is no such room for you"}}', NotFound),
        (b'{"error":{"code":"news","message":"from a later version"}}', UnibusError),
        (b"", Untrusted),
        (b"[" * 100_000, Untrusted),
        (b'{"after":"12"}', Untrusted),
        (b'{"after":-5}', Untrusted),  # what is remembered of it could not be read again
        (b'{"after":true}', Untrusted),
        (b'{"after":18446744073709551616}', Untrusted),
        (b'{"error":"no"}', Untrusted),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_delivery_that_is_not_opened_names_the_cause(answer: bytes, kind: type[UnibusError]) -> None:
    with pytest.raises(UnibusError) as caught:
        read_opened(answer)
    assert type(caught.value) is kind


def test_a_refused_delivery_cannot_pass_for_something_found_here_nor_write_on_a_terminal() -> None:
    with pytest.raises(UnibusError) as caught:
        read_opened(b'{"error":{"code":"log-forked","message":"\\u001b[2Jalice is lying"}}')
    assert type(caught.value) is UnibusError
    assert "\x1b" not in caught.value.message
