"""The half of `tests.store.conformance` that is about many who write at once: one wins, and nothing is lost.

As there, nothing here may know an engine.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from unibus.store.port import Append, Entry, PositionTaken, Store

OpenStore = Callable[[], Awaitable[Store]]
Reopen = Callable[[Store], Awaitable[Store]]


class RacingConformance:
    """What a store promises of writes at one time. Subclasses override `open_store`; the rest stays as it is."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Opens one more handle on this test's data, the first on none, as a process of its own would. Closes all."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, open_store: OpenStore) -> Store:
        return await open_store()

    @pytest.fixture
    def reopen(self, open_store: OpenStore) -> Reopen:
        """Closes a handle and opens another on the same data."""

        async def reopen(store: Store) -> Store:
            await store.close()
            return await open_store()

        return reopen

    async def test_of_racing_appends_one_wins(self, store: Store) -> None:
        results = await asyncio.gather(
            *(store.append(Append("log", 1, b"%d" % n, {f"{n}": b"x"}, {f"{n}": b"y"})) for n in range(20)),
            return_exceptions=True,
        )
        await self.assert_one_winner(store, results)

    async def test_of_appends_racing_through_two_handles_one_wins(self, store: Store, open_store: OpenStore) -> None:
        handles = [store, await open_store()]
        results = await asyncio.gather(
            *(handles[n % 2].append(Append("log", 1, b"%d" % n, {f"{n}": b"x"}, {f"{n}": b"y"})) for n in range(20)),
            return_exceptions=True,
        )
        for handle in handles:
            await self.assert_one_winner(handle, results)

    @staticmethod
    async def assert_one_winner(store: Store, results: list[BaseException | None]) -> None:
        (winner,) = [n for n, result in enumerate(results) if result is None]
        lost = [result for result in results if result is not None]
        assert [getattr(result, "length", result) for result in lost] == [1] * 19
        assert await store.entries("log", 0, 10) == [Entry(1, b"%d" % winner)]
        assert await store.marks("", "", 100) == [(f"{winner}", b"y")]
        for n in range(20):
            assert await store.attachments("log", f"{n}", 0, 10) == ([Entry(1, b"x")] if n == winner else [])

    async def test_writers_that_retry_leave_no_gap_and_lose_nothing(self, store: Store, open_store: OpenStore) -> None:
        handles = [store, await open_store()]

        async def add(n: int) -> None:
            position = 1
            while True:
                try:
                    return await handles[n % 2].append(Append("log", position, b"%d" % n))
                except PositionTaken as taken:
                    position = taken.length + 1

        await asyncio.gather(*(add(n) for n in range(20)))
        await store.sync()
        entries = await store.entries("log", 0, 100)
        assert [entry.position for entry in entries] == list(range(1, 21))
        assert {entry.value for entry in entries} == {b"%d" % n for n in range(20)}

    async def test_of_racing_pairs_each_winner_leaves_one_line_and_no_loser_does(
        self, store: Store, open_store: OpenStore
    ) -> None:
        handles = [store, await open_store()]

        async def write(n: int) -> bool:
            try:
                await handles[n % 2].append(
                    Append(f"log {n % 10}", 1, b"%d" % n, {}, {f"by {n % 10}": b"%d" % n}),
                    Append(f"trail {n % 2}", None, b"%d" % n),
                )
            except PositionTaken:
                return False
            return True

        won = {n for n, wins in enumerate(await asyncio.gather(*map(write, range(40)))) if wins}
        for handle in handles:
            await handle.sync()
            lines = [int(entry.value) for n in (0, 1) for entry in await handle.entries(f"trail {n}", 0, 99)]
            first = [int(entry.value) for n in range(10) for entry in await handle.entries(f"log {n}", 0, 99)]
            assert sorted(lines) == sorted(first) == sorted(won)
            assert [int(value) for _, value in await handle.marks("by ", "", 99)] == first
        assert len(won) == 10

    async def test_what_is_added_at_the_end_needs_no_number(self, store: Store, open_store: OpenStore) -> None:
        handles = [store, await open_store()]
        await asyncio.gather(*(handles[n % 2].append(Append("log", None, b"%d" % n)) for n in range(40)))
        await store.sync()
        entries = await store.entries("log", 0, 99)
        assert [entry.position for entry in entries] == [*range(1, 41)]
        assert {int(entry.value) for entry in entries} == {*range(40)}

    async def test_a_sequence_sent_at_once_is_kept_in_order(self, store: Store) -> None:
        await asyncio.gather(*(store.append(Append("log", n, b"%d" % n, marks={"m": b"%d" % n})) for n in range(1, 51)))
        assert [entry.position for entry in await store.entries("log", 0, 100)] == list(range(1, 51))
        assert await store.marks("", "", 10) == [("m", b"50")]

    async def test_what_was_acknowledged_elsewhere_is_here_after_a_sync(
        self, store: Store, open_store: OpenStore
    ) -> None:
        other = await open_store()
        for position in range(1, 21):
            await store.append(Append("log", position, b"v", {"a": b"x"}, {"m": b"%d" % position}))
            await other.sync()
            assert await other.last("log") == Entry(position, b"v")
            assert await other.marks("m", "", 10) == [("m", b"%d" % position)]
            store, other = other, store

    async def test_the_loser_does_not_spoil_its_neighbours(self, store: Store) -> None:
        positions = [1, 1, 2, 2, 9, 3, 3, 4]
        results = await asyncio.gather(
            *(store.append(Append(log, position, b"v")) for position in positions for log in ("a", "b")),
            return_exceptions=True,
        )
        assert sum(result is None for result in results) == 8
        for log in ("a", "b"):
            assert [entry.position for entry in await store.entries(log, 0, 100)] == [1, 2, 3, 4]

    @pytest.mark.parametrize("turns", range(12))
    async def test_a_cancelled_append_is_there_in_full_or_not_at_all(
        self, store: Store, reopen: Reopen, turns: int
    ) -> None:
        cancelled = asyncio.create_task(store.append(Append("log", 1, b"v", {"a": b"x"}, {"m": b"y"})))
        others = asyncio.gather(*(store.append(Append(f"other{n}", 1, b"v")) for n in range(5)))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        await others
        store = await reopen(store)
        written = len(await store.entries("log", 0, 10))
        assert len(await store.attachments("log", "a", 0, 10)) == written
        assert len(await store.marks("m", "", 10)) == written
        assert await store.logs("other", "", 10) == [f"other{n}" for n in range(5)]
        await store.append(Append("log", written + 1, b"next"))
        if not cancelled.cancelled():
            assert written == 1

    async def test_of_racing_claims_one_wins(self, store: Store, open_store: OpenStore) -> None:
        handles = [store, await open_store()]
        results = await asyncio.gather(*(handles[n % 2].claim(f"{n // 10}", 100) for n in range(100)))
        assert [sum(results[start : start + 10]) for start in range(0, 100, 10)] == [1] * 10
