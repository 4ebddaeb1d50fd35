"""What a signal may be: its time, its size and its parts; and the queue that keeps the newest."""

import asyncio

import pytest

from unibus.client.link import ROOMS_CARRIED, ROOMS_HEARD, Link
from unibus.client.newest import Newest
from unibus.client.signal_rules import (
    ANSWER,
    FRESH_SECONDS,
    ID_BYTES,
    MAX_FRAME,
    MAX_SIGNAL,
    QUESTION,
    Directed,
    addressee,
    check_addressee,
    check_fresh,
    check_size,
    read_directed,
    read_signal,
)
from unibus.crypto.frames import Content, seal_frame, signal_purpose
from unibus.crypto.heads import EMPTY
from unibus.crypto.identity import Identity
from unibus.crypto.roomkey import EpochRef
from unibus.errors import BusUnavailable, FrameInvalid, LimitReached, SignalStale, TooLarge
from unibus.model.subjects import ALL, room_signals

ADA = Identity.from_secret(bytes(32))
NOW = 1_800_000_000.0
NUMBER = bytes(ID_BYTES)


def content(*parts: bytes, at: float = NOW) -> Content:
    """What is in a frame that was sent `at` a time in Unix seconds."""
    return Content(int(at * 1000), EMPTY, EMPTY, parts)


@pytest.mark.parametrize("age", [-FRESH_SECONDS, 0, FRESH_SECONDS])
def test_a_fresh_signal_is_in_time(age: float) -> None:
    check_fresh(content(b"x", at=NOW - age), NOW, "ada")


@pytest.mark.parametrize(
    ("sent_at", "said"), [(NOW - 31, "31 s ago"), (NOW + 31, "31 s ahead"), (0, "ago"), (2**60, "ahead")]
)
def test_what_is_out_of_time_is_stale(sent_at: float, said: str) -> None:
    with pytest.raises(SignalStale, match=said):
        check_fresh(content(b"x", at=sent_at), NOW, "ada")


def test_a_signal_is_one_part_of_a_bounded_size() -> None:
    assert read_signal(content(b"")) == b""
    assert read_signal(content(check_size(bytes(MAX_SIGNAL)))) == bytes(MAX_SIGNAL)
    for parts in ((b"a", b"b"), (bytes(MAX_SIGNAL + 1),), (QUESTION, NUMBER, b"")):
        with pytest.raises(FrameInvalid):
            read_signal(content(*parts))
    with pytest.raises(TooLarge):
        check_size(bytes(MAX_SIGNAL + 1))


def test_what_goes_to_one_member_says_what_it_is() -> None:
    said = Directed(ANSWER, NUMBER, bytes(MAX_SIGNAL))
    assert read_directed(content(*said.parts)) == said
    for parts in (
        (b"x",),
        (QUESTION, NUMBER),
        (b"order", NUMBER, b""),
        (QUESTION, NUMBER[1:], b""),
        (QUESTION, NUMBER + b"0", b""),
        (QUESTION, NUMBER, bytes(MAX_SIGNAL + 1)),
        (QUESTION, NUMBER, b"", b""),
    ):
        with pytest.raises(FrameInvalid):
            read_directed(content(*parts))


def test_the_largest_signal_is_not_above_the_limit_of_frames() -> None:
    ref, parts = EpochRef("bus", "room", 1), Directed(QUESTION, NUMBER, bytes(MAX_SIGNAL)).parts
    frame = seal_frame(ADA.signing, bytes(32), ref, bytes(16), 0, content(*parts), signal_purpose(ADA.user))
    assert len(frame) == MAX_FRAME


def test_a_signal_is_for_all_or_for_oneself() -> None:
    assert addressee(room_signals("room", "UADA")) == ALL
    assert addressee(room_signals("room", "UADA", "UBOB")) == "UBOB"
    check_addressee(ALL, "UBOB")
    check_addressee("UBOB", "UBOB")
    with pytest.raises(FrameInvalid):
        check_addressee("UADA", "UBOB")


async def test_the_oldest_gives_way_to_the_newest() -> None:
    queue: Newest[int] = Newest(3)
    for number in range(5):
        queue.put(number)
    assert [await queue.get() for _ in range(3)] == [2, 3, 4]
    assert queue.dropped == 2
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.put(5)
    queue.end(BusUnavailable("over"))
    assert await waiting == 5
    with pytest.raises(BusUnavailable, match="over"):
        await queue.get()


async def test_rooms_that_are_heard_do_not_push_each_other_off_the_connection() -> None:
    async def unasked() -> tuple[str, None]:
        raise AssertionError("nothing connects here")

    link = Link(
        ADA,
        locate=unasked,
        allowed=unasked,
        may_hear=lambda _: True,
        may_write=lambda _: True,
        on_event=lambda _: None,
        on_up=lambda: None,
    )
    for number in range(ROOMS_HEARD):
        link.hold(f"heard {number}")
    link.hold("heard 0")
    with pytest.raises(LimitReached, match="at most 100 rooms"):
        link.hold("one more")
    for number in range(ROOMS_CARRIED):
        link.carry(f"written {number}")
    assert len(link.rooms) == ROOMS_CARRIED
    assert {f"heard {number}" for number in range(ROOMS_HEARD)} < set(link.rooms)
    link.release("heard 0")
    link.hold("one more")
    assert "heard 0" not in link.rooms
