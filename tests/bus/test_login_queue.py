"""However many come at once, there is always somebody who is let in in time."""

from unibus.bus.config import AUTH_TIMEOUT
from unibus.bus.login_queue import FAIR, LATE, MOST, LoginQueue


def test_everybody_is_next_in_the_order_of_coming() -> None:
    queue: LoginQueue[str] = LoginQueue()
    for second, name in enumerate("abc"):
        queue.join(name, 10 + second * FAIR / 4)
    assert [queue.next(10 + FAIR) for _ in range(4)] == ["a", "b", "c", None]


def test_once_others_have_to_wait_whoever_came_last_is_next() -> None:
    queue: LoginQueue[str] = LoginQueue()
    queue.join("early", 10)
    queue.join("late", 10 + FAIR)
    now = 10 + 1.5 * FAIR
    assert [queue.next(now) for _ in range(3)] == ["late", "early", None]


def test_who_has_waited_too_long_is_passed_over() -> None:
    assert LATE < AUTH_TIMEOUT
    queue: LoginQueue[str] = LoginQueue()
    queue.join("gone", 10)
    queue.join("there", 11)
    assert (queue.next(10.1 + LATE), len(queue)) == ("there", 0)


def test_of_too_many_the_longest_waiting_give_way() -> None:
    queue: LoginQueue[int] = LoginQueue()
    for number in range(MOST + 1):
        queue.join(number, 10)
    assert (len(queue), queue.next(10)) == (MOST, 1)


def test_under_more_than_can_be_done_as_many_are_let_in_as_there_is_time_for() -> None:
    queue: LoginQueue[float] = LoginQueue()
    waited, coming, now, a_request = [], 0.0, 0.0, 0.001  # 2,000 come in a second, 1,000 can be looked at
    while now < 20:
        while coming <= now:
            queue.join(coming, coming)
            coming += a_request / 2
        came = queue.next(now)
        assert came is not None
        waited.append(now - came)
        now += a_request
    in_time = [wait for wait in waited if wait < AUTH_TIMEOUT]
    assert len(in_time) == len(waited) >= 19_900
    assert sorted(waited)[len(waited) // 2] < 0.01
