"""Batches: every message once and in order, in frames that fit, and each sender told of its own frame."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import identity
from unibus.client.batching import MAX_MESSAGE, MAX_MESSAGES, PIECE, Batcher
from unibus.client.messages import Position
from unibus.crypto.frames import MAX_FRAME, PER_MESSAGE, Content, seal_frame
from unibus.crypto.heads import EMPTY
from unibus.crypto.roomkey import EpochRef
from unibus.errors import BusUnavailable, TooLarge

SIZES = st.integers(0, 40) | st.sampled_from([PIECE // 2, PIECE - PER_MESSAGE, PIECE, MAX_MESSAGE])
MOST = st.sampled_from([1, PIECE, 3 * PIECE, MAX_MESSAGE])


@given(st.lists(st.lists(SIZES, max_size=12), max_size=6), MOST)
def test_each_message_is_taken_once_in_order_in_batches_that_fit(bursts: list[list[int]], most: int) -> None:
    loop = asyncio.new_event_loop()
    try:
        batcher = Batcher(loop)
        posted: list[bytes] = []
        taken: list[bytes] = []
        for burst in bursts:
            for size in burst:
                message = len(posted).to_bytes(4, "big") + bytes(max(0, min(size, MAX_MESSAGE) - 4))
                posted.append(message)
                batcher.add(message)
            batch = batcher.take(most)
            taken += batch.messages if batch else []
        while batch := batcher.take(most):
            size = sum(len(message) + PER_MESSAGE for message in batch.messages)
            assert batch.messages
            assert size <= max(most, PIECE) or len(batch.messages) == 1
            taken += batch.messages
        assert taken == posted
        assert batcher.size == 0
    finally:
        loop.close()


async def test_a_batch_holds_no_more_than_its_number_of_messages() -> None:
    batcher = Batcher(asyncio.get_running_loop())
    for _ in range(MAX_MESSAGES + 1):
        batcher.add(b"")
    first, second = batcher.take(MAX_MESSAGE), batcher.take(MAX_MESSAGE)
    assert first is not None
    assert second is not None
    assert (len(first.messages), len(second.messages)) == (MAX_MESSAGES, 1)


async def test_the_largest_message_fits_into_a_frame_and_a_larger_one_is_refused() -> None:
    batcher = Batcher(asyncio.get_running_loop())
    with pytest.raises(TooLarge, match=f"at most {MAX_MESSAGE} bytes"):
        batcher.add(bytes(MAX_MESSAGE + 1))
    assert batcher.size == 0
    batcher.add(bytes(MAX_MESSAGE))
    batch = batcher.take(MAX_MESSAGE)
    assert batch is not None
    content = Content(0, EMPTY, EMPTY, tuple(batch.messages))
    epoch = EpochRef("A" * 43, "a" * 26, 1)
    assert len(seal_frame(identity("ada").signing, bytes(32), epoch, bytes(16), 0, content)) <= MAX_FRAME


async def test_a_frame_takes_as_much_as_it_is_given_when_it_is_made() -> None:
    batcher = Batcher(asyncio.get_running_loop())
    for _ in range(8):
        batcher.add(bytes(PIECE - PER_MESSAGE))
    taken = [batcher.take(most) for most in (PIECE, 3 * PIECE, 1, 2 * PIECE - 1, 8 * PIECE, PIECE)]
    assert [len(batch.messages) if batch else 0 for batch in taken] == [1, 3, 1, 1, 2, 0]


async def test_each_message_gets_its_own_position_and_all_share_the_frames_fate() -> None:
    batcher = Batcher(asyncio.get_running_loop())
    sent = [batcher.add(bytes(PIECE // 2 + 1)) for _ in range(3)]
    batch = batcher.take(MAX_MESSAGE)
    assert batch is not None
    assert len(batch.pieces) == 3
    gives_up = asyncio.ensure_future(_wait(sent[1]))
    await asyncio.sleep(0)
    gives_up.cancel()
    await asyncio.gather(gives_up, return_exceptions=True)
    batch.settle(17)
    assert [await one for one in sent] == [Position(17, 0), Position(17, 1), Position(17, 2)]


async def test_a_frames_failure_reaches_every_message_in_it() -> None:
    batcher = Batcher(asyncio.get_running_loop())
    sent = [batcher.add(b"x") for _ in range(2)]
    (batch,) = batcher.take_all()
    assert batcher.take(MAX_MESSAGE) is None
    batch.settle(BusUnavailable("gone"))
    for one in sent:
        with pytest.raises(BusUnavailable, match="gone"):
            await one


async def _wait(sent: "object") -> object:
    return await sent  # type: ignore[misc]  # a Sent is awaitable; a coroutine is what a task takes
