"""A delivery's messages come in order, and silence is noticed, with one timer for all of them."""

import asyncio

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from unibus.client.inbox import EACH, Inbox

SILENCE = 0.2


async def test_they_come_in_order_whether_somebody_waits_or_not() -> None:
    inbox = Inbox(SILENCE)
    inbox.put(None)
    waiting = [await inbox.get()]
    getting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    inbox.put(None)
    inbox.put(None)
    assert [*waiting, await getting, await inbox.get()] == [None, None, None]
    inbox.close()


async def test_silence_is_counted_from_when_the_reader_began_to_wait() -> None:
    inbox, loop = Inbox(SILENCE), asyncio.get_running_loop()
    for _ in range(3):
        loop.call_later(SILENCE / 2, inbox.put, None)
        assert await inbox.get() is None
        # The reader has other things to do; nobody is silent meanwhile.
        await asyncio.sleep(SILENCE)
    begin = loop.time()
    with pytest.raises(TimeoutError):
        await inbox.get()
    assert loop.time() - begin >= SILENCE * 0.99
    inbox.close()


async def test_a_message_that_is_coming_is_no_silence_and_one_that_stopped_is() -> None:
    inbox, loop = Inbox(SILENCE), asyncio.get_running_loop()
    begin, whole = loop.time(), 3 * SILENCE
    inbox.half = lambda: int(min(loop.time() - begin, whole) * 1000)
    with pytest.raises(TimeoutError):
        await inbox.get()
    assert loop.time() - begin >= whole
    inbox.close()


async def test_an_answer_is_waited_for_while_the_delivery_comes() -> None:
    inbox, loop = Inbox(SILENCE), asyncio.get_running_loop()
    for step in range(1, 8):
        loop.call_later(step * SILENCE / 2, inbox.put, None)
    assert await inbox.unless_silent(asyncio.sleep(3 * SILENCE, b"here")) == b"here"


async def test_an_answer_is_not_waited_for_when_nothing_comes() -> None:
    inbox, loop = Inbox(SILENCE), asyncio.get_running_loop()
    inbox.put(None)
    begin = loop.time()
    with pytest.raises(TimeoutError):
        await inbox.unless_silent(asyncio.sleep(50 * SILENCE, b"late"))
    assert loop.time() - begin < 25 * SILENCE


async def test_one_who_gave_up_waiting_loses_nothing() -> None:
    inbox = Inbox(SILENCE)
    getting = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    getting.cancel()
    inbox.put(None)
    await asyncio.gather(getting, return_exceptions=True)
    assert getting.cancelled()
    async with asyncio.timeout(5):
        assert await inbox.get() is None
    inbox.close()


async def test_what_comes_faster_than_it_is_taken_is_not_kept_without_a_bound() -> None:
    inbox = Inbox(SILENCE, most=3 * EACH + 10)
    for data in (b"12345", bytes(5000), b"1234", b"x", b"", b""):
        inbox.put(Msg(Client(), data=data))
    inbox.put(None)
    taken = [await inbox.get() for _ in range(4)]
    assert [msg and msg.data for msg in taken] == [b"12345", b"1234", b"x", None]
    inbox.put(Msg(Client(), data=b"as before"))
    assert await inbox.get() is not None
    inbox.close()
