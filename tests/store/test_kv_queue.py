"""What waits for the cluster: in groups, in order, with an answer for each, and refused when others take too long."""

import asyncio
from collections.abc import Sequence

import pytest

from unibus.errors import NoQuorum, StorageUnavailable
from unibus.store.kv_queue import Queue, Waiter


class Server:
    """Notes the groups that it is handed, and answers while it is open."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.open = asyncio.Event()
        self.error: Exception | None = None

    async def serve(self, group: Sequence[Waiter[str, str]]) -> None:
        self.groups.append([waiter.what for waiter in group])
        await self.open.wait()
        if self.error is not None:
            raise self.error
        for waiter in group:
            waiter.settle(waiter.what.upper())


async def test_what_waits_goes_together_within_the_bounds() -> None:
    server = Server()
    queue = Queue(server.serve, most=3, most_bytes=10, within=20)
    sizes = {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "large": 99, "f": 10, "g": 1}
    asked = [asyncio.create_task(queue.put(what, size)) for what, size in sizes.items()]
    await asyncio.sleep(0)
    server.open.set()
    assert await asyncio.gather(*asked) == ["A", "B", "C", "D", "E", "LARGE", "F", "G"]
    assert server.groups == [["a", "b", "c"], ["d", "e"], ["large"], ["f"], ["g"]]
    assert await queue.put("h") == "H"


async def test_what_was_not_begun_in_time_is_refused_and_never_done() -> None:
    server = Server()
    queue = Queue(server.serve, most=1, most_bytes=10, within=0.05)
    begun = asyncio.create_task(queue.put("begun"))
    await asyncio.sleep(0)
    with pytest.raises(StorageUnavailable, match="slow"):
        await queue.put("late")
    left = asyncio.create_task(queue.put("left"))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    server.open.set()
    assert await begun == "BEGUN"  # however long it takes: its outcome is not known before
    assert server.groups == [["begun"]]


async def test_an_error_reaches_each_of_its_group_and_ends_nothing() -> None:
    server = Server()
    server.open.set()
    queue = Queue(server.serve, most=9, most_bytes=10, within=20)
    for server.error in (NoQuorum("no quorum"), RuntimeError("a mistake")):
        found = await asyncio.gather(queue.put("a"), queue.put("b"), return_exceptions=True)
        assert [(type(error), str(error)) for error in found] == [(type(server.error), str(server.error))] * 2
    server.error = None
    assert await queue.put("c") == "C"


async def test_who_was_just_answered_together_comes_again_together() -> None:
    server = Server()
    queue = Queue(server.serve, most=9, most_bytes=10, within=20, patience=20)
    asked = [asyncio.create_task(queue.put(what)) for what in "abcd"]
    await asyncio.sleep(0.5)  # as long as they take, the next may wait
    server.open.set()
    await asyncio.gather(*asked)
    asked = []
    for what in "efgh":
        asked.append(asyncio.create_task(queue.put(what)))
        for _ in range(9):
            await asyncio.sleep(0)
    await asyncio.gather(*asked)
    assert server.groups == [["a", "b", "c", "d"], ["e", "f", "g", "h"]]


async def test_nobody_waits_long_for_others_who_do_not_come_again() -> None:
    server = Server()
    queue = Queue(server.serve, most=9, most_bytes=10, within=20, patience=0.01)
    asked = [asyncio.create_task(queue.put(what)) for what in "abcd"]
    await asyncio.sleep(0.1)
    server.open.set()
    await asyncio.gather(*asked)
    assert await queue.put("e") == "E"
    assert server.groups == [["a", "b", "c", "d"], ["e"]]
