"""What is on its way grows over a fast way, shrinks over a slow one, and stays within its bounds whatever happens."""

from hypothesis import given
from hypothesis import strategies as st

from unibus.client.batching import MAX_MESSAGE, PIECE
from unibus.client.pace import BEGIN, FAST, LARGEST, MOST, Pace

FRAMES = 200
ACK_SECONDS = 3.0


def over(rate: float, delay: float, pace: Pace) -> list[float]:
    """Seconds until each of FRAMES is acknowledged, by a way of `rate` bytes a second and `delay`, ever full."""
    now, free, on_way, took = 0.0, 0.0, list[tuple[float, float, int, int]](), list[float]()
    while len(took) < FRAMES:
        while sum(size for *_, size, _ in on_way) < pace.window:
            size = pace.frame
            free = max(free, now) + size / rate
            on_way.append((free + delay, now, size, size + sum(size for *_, size, _ in on_way)))
        now, sent, size, with_it = on_way.pop(0)
        took.append(now - sent)
        pace.acknowledged(size, with_it, now - sent)
    return took


def test_over_a_fast_way_frames_become_as_large_as_they_may() -> None:
    pace = Pace()
    over(300e6, 0.001, pace)
    assert pace.window == MOST
    assert pace.frame == LARGEST


def test_what_is_posted_at_once_is_one_frame_once_the_way_is_known_to_be_fast() -> None:
    pace = Pace()
    while pace.window < FAST:
        pace.acknowledged(pace.frame, pace.window, 0.001)
    assert pace.frame >= FAST


def test_a_long_way_is_no_slow_one() -> None:
    pace = Pace()
    over(300e6, 0.9, pace)
    assert pace.window == MOST


def test_over_a_slow_way_nothing_waits_until_it_is_taken_for_lost() -> None:
    for rate in (32e3, 125e3, 1.25e6):
        assert max(over(rate, 0.05, Pace())) < ACK_SECONDS, rate


def test_a_way_that_becomes_slow_is_given_less() -> None:
    pace = Pace()
    over(300e6, 0.001, pace)
    assert over(1.25e6, 0.001, pace)[-1] < 1
    over(300e6, 0.001, pace)
    assert pace.frame == LARGEST


def test_one_message_at_a_time_says_nothing_of_what_more_would_take() -> None:
    pace = Pace()
    for _ in range(FRAMES):
        pace.acknowledged(300, 300, 0.0005)
    assert pace.window == BEGIN


@given(st.lists(st.tuples(st.integers(200, MAX_MESSAGE), st.integers(0, MOST), st.floats(0, 60)) | st.none()))
def test_it_stays_within_its_bounds(said: list[tuple[int, int, float] | None]) -> None:
    pace = Pace()
    for one in said:
        if one is None:
            pace.overdue()
            assert pace.window == PIECE
        else:
            size, others, seconds = one
            pace.acknowledged(size, size + others, seconds)
        assert PIECE <= pace.window <= MOST
        assert PIECE <= pace.frame <= LARGEST < MAX_MESSAGE
