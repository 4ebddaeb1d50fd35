"""Token buckets: never more than burst and rate allow, never a wait that is too short, never unbounded memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unibus.model.rates import Rates, address_key

STEPS = st.lists(st.tuples(st.floats(0, 5), st.integers(0, 3)), max_size=60)


@given(rate=st.integers(1, 50), burst=st.integers(1, 100), steps=STEPS)
def test_no_window_lets_through_more_than_burst_and_rate(rate: int, burst: int, steps: list[tuple[float, int]]) -> None:
    rates, now, taken = Rates(rate, burst, 10), 100.0, []
    for pause, asks in steps:
        now += pause
        taken += [now for _ in range(asks) if rates.wait("a", now) == 0]
    for first, begin in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - begin) + 0.01


@given(rate=st.integers(1, 50), burst=st.integers(1, 100), pauses=st.lists(st.floats(0, 1), max_size=30))
def test_whoever_waits_as_told_gets_a_token(rate: int, burst: int, pauses: list[float]) -> None:
    rates, now = Rates(rate, burst, 10), 100.0
    for pause in pauses:
        now += pause
        wait = rates.wait("a", now)
        assert 0 <= wait <= 1 / rate + 1e-6
        if wait:
            now += wait
            assert rates.wait("a", now) == 0


def test_a_burst_passes_and_the_next_waits() -> None:
    rates = Rates(10, 300, 10)
    assert [rates.wait("a", 5.0) for _ in range(300)] == [0.0] * 300
    assert rates.wait("a", 5.0) == pytest.approx(0.1)
    assert rates.wait("b", 5.0) == 0
    assert rates.wait("a", 5.2) == 0


def test_a_refused_request_costs_nothing() -> None:
    rates = Rates(1, 1, 10)
    assert rates.wait("a", 0.0) == 0
    assert [rates.wait("a", 0.5) for _ in range(100)] == [pytest.approx(0.5)] * 100
    assert rates.wait("a", 1.0) == 0


def test_a_charge_empties_the_bucket_and_no_more() -> None:
    rates = Rates(10, 20, 10)
    rates.charge("a", 1_000_000, 0.0)
    assert rates.wait("a", 0.0) == pytest.approx(0.1)
    assert rates.wait("a", 0.2) == 0


def test_a_rate_of_zero_is_no_limit() -> None:
    rates = Rates(0, 0, 10)
    rates.charge("a", 100, 0.0)
    assert {rates.wait("a", 0.0) for _ in range(10_000)} == {0.0}
    assert len(rates) == 0


def test_memory_is_bounded_and_who_asks_most_is_not_forgotten() -> None:
    rates = Rates(1, 2, 100)
    for stranger in range(10_000):
        rates.wait(f"stranger {stranger}", 0.0)
        rates.wait("often", 0.0)
    assert len(rates) == 100
    assert rates.wait("often", 0.0) > 0


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("127.0.0.1", None),
        ("127.8.9.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
        (None, None),
        ("/run/unibus.sock", None),
    ],
)
def test_what_an_address_counts_as(peer: str | None, key: str | None) -> None:
    assert address_key(peer) == key
