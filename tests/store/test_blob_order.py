"""Parts that wait for those before them: in order, with nothing left, however many there are and whatever ends them."""

import asyncio

import pytest

from unibus.store.blob_order import PartOrder

MANY = 500  # as many connections as a node takes


async def come(order: PartOrder, offset: int, came: list[int]) -> None:
    async with order.after_earlier(offset):
        came.append(offset)
        await asyncio.sleep(0)  # others may go on now


async def wait(*tasks: "asyncio.Task[None]") -> None:
    """Let every task come as far as it can."""
    for _ in tasks:
        await asyncio.sleep(0)


async def test_very_many_come_in_order_and_leave_nothing() -> None:
    order, came = PartOrder(), list[int]()
    async with asyncio.timeout(10), order.after_earlier(0):
        waiting = [asyncio.create_task(come(order, offset, came)) for offset in range(MANY, 0, -1)]
        await wait(*waiting)
        assert came == []
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    assert came == list(range(1, MANY + 1))
    assert order._left == {}  # noqa: SLF001 - what it remembers is what is asked here


async def test_very_many_that_begin_at_one_place_hold_up_nobody() -> None:
    order, came = PartOrder(), list[int]()
    async with asyncio.timeout(10), order.after_earlier(0):
        waiting = [asyncio.create_task(come(order, 1, came)) for _ in range(MANY)]
        last = asyncio.create_task(come(order, 2, came))
        await wait(*waiting, last)
    await asyncio.gather(*waiting, last)
    assert sorted(came) == [1] * MANY + [2]
    assert order._left == {}  # noqa: SLF001


@pytest.mark.parametrize("overtaken", [False, True])
async def test_who_is_cut_off_while_it_waits_holds_up_nobody(overtaken: bool) -> None:
    order, came = PartOrder(), list[int]()
    async with asyncio.timeout(10), order.after_earlier(0):
        cut = [asyncio.create_task(come(order, offset, came)) for offset in range(1, MANY)]
        last = asyncio.create_task(come(order, MANY, came))
        again = [asyncio.create_task(come(order, 1, came))] if overtaken else []
        await wait(*cut, last, *again)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        assert came == []
    await asyncio.gather(last, *again)
    assert came == [1] * overtaken + [MANY]
    assert order._left == {}  # noqa: SLF001
