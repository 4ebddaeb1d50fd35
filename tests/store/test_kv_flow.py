"""When writes are held back: while none was answered for a moment, and never those that find out whether any is."""

import asyncio

import pytest

from unibus.errors import NoQuorum
from unibus.store.kv_flow import HELD_AFTER, Flow


class Clock:
    """A time that the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def ask(flow: Flow, clock: Clock, seconds: float, end: BaseException | None = None) -> None:
    """Ask something that ends after so many seconds, with an answer or otherwise."""
    with flow.asking():
        clock.now += seconds
        if end is not None:
            raise end


def test_what_is_answered_in_time_holds_nothing_back() -> None:
    clock = Clock()
    flow = Flow(clock)
    for _ in range(3):
        with flow.asking():
            clock.now += HELD_AFTER
            assert not flow.held
    clock.now += 1000.0
    assert not flow.held


def test_one_answer_is_enough_for_all_that_wait() -> None:
    clock = Clock()
    flow = Flow(clock)
    held = []
    with flow.asking():
        clock.now += HELD_AFTER
        with flow.asking():
            clock.now += 2 * HELD_AFTER
            held.append(flow.held)
        held.append(flow.held)
        clock.now += 2 * HELD_AFTER
        held.append(flow.held)
    assert held == [True, False, True]
    clock.now += 1000.0
    assert not flow.held


async def test_who_is_held_goes_on_with_the_first_answer() -> None:
    clock = Clock()
    flow = Flow(clock)
    await flow.turn()
    with pytest.raises(TimeoutError):
        ask(flow, clock, 2.0, TimeoutError())
    turns = [asyncio.ensure_future(flow.turn()) for _ in range(3)]
    await asyncio.sleep(0)
    assert flow.held
    assert not any(turn.done() for turn in turns)
    with flow.asking():
        assert flow.held
    await asyncio.gather(*turns)


def test_a_refusal_is_an_answer() -> None:
    clock = Clock()
    flow = Flow(clock)
    with pytest.raises(NoQuorum):
        ask(flow, clock, 2.0, NoQuorum("no"))
    assert not flow.held


@pytest.mark.parametrize("waited", [0.0, HELD_AFTER])
def test_who_did_not_wait_for_the_answer_says_nothing_about_it(waited: float) -> None:
    clock = Clock()
    flow = Flow(clock)
    with pytest.raises(asyncio.CancelledError):
        ask(flow, clock, waited, asyncio.CancelledError())
    clock.now += 1000.0
    assert not flow.held


def test_of_several_that_did_not_wait_the_last_one_counts() -> None:
    clock = Clock()
    flow = Flow(clock)
    with flow.asking():
        with pytest.raises(asyncio.CancelledError):
            ask(flow, clock, 0.0, asyncio.CancelledError())
        clock.now += 2 * HELD_AFTER
        assert flow.held
    assert not flow.held


def test_what_the_cluster_tells_of_by_itself_is_an_answer() -> None:
    clock = Clock()
    flow = Flow(clock)
    held = []

    def see_it_by_another_way() -> None:
        with flow.asking():
            clock.now += 2.0
            held.append(flow.held)
            flow.heard()
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        see_it_by_another_way()
    clock.now += 1000.0
    held.append(flow.held)
    assert held == [True, False]
