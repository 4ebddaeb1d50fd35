"""The pauses between restarts: they grow, they end somewhere, and a stable life is a fresh start."""

from hypothesis import given
from hypothesis import strategies as st

from unibus.bus.backoff import FIRST, LONGEST, STABLE, Backoff

JITTER = st.floats(0, 1, exclude_max=True)


def test_pauses_double_up_to_the_longest() -> None:
    pauses, backoff = [], Backoff()
    for _ in range(10):
        backoff = backoff.after(1.0)
        pauses.append(backoff.wait(0.0))
    assert pauses == [FIRST * 2**n if FIRST * 2**n < LONGEST else LONGEST for n in range(10)]
    assert pauses[-1] == LONGEST


@given(st.integers(1, 100_000), JITTER)
def test_a_pause_is_never_nothing_nor_too_long(failures: int, jitter: float) -> None:
    assert FIRST / 2 <= Backoff(failures).wait(jitter) <= LONGEST


@given(st.integers(0, 1000), st.floats(STABLE, 1e9))
def test_a_stable_life_starts_over(failures: int, lived: float) -> None:
    assert Backoff(failures).after(lived) == Backoff(1)


def test_the_first_start_does_not_wait() -> None:
    assert Backoff().wait(0.5) == 0.0
