"""Pages of a log: one ahead, in order, and never more than was asked for."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from tests.builders import Story
from unibus.client.pages import read_pages
from unibus.crypto.heads import Head
from unibus.errors import MalformedRecord, Unreachable
from unibus.model.records import Record
from unibus.model.wire import HeadView, RecordsPage
from unibus.tasks import SHARE


class Log:
    """Shows pages of `size` records, and notes what was asked for; `fails` is what it cannot show."""

    def __init__(self, records: Sequence[bytes], head: Head, size: int, fails: int | None = None) -> None:
        self._records, self._head, self._size, self._fails = records, head, size, fails
        self.asked: list[int] = []
        self.ended: list[int] = []

    async def fetch(self, after: int) -> RecordsPage:
        self.asked.append(after)
        try:
            await asyncio.sleep(0)
        finally:
            self.ended.append(after)
        if after == self._fails:
            raise Unreachable("gone")
        shown = [raw.decode() for raw in self._records[after : after + self._size]]
        return RecordsPage(records=shown, head=HeadView(sequence=self._head.sequence, hash=self._head.hash))

    async def read(self, after: int = 0) -> AsyncIterator[list[int | type]]:
        async with aclosing(read_pages(self.fetch, after)) as pages:
            async for page in pages:
                assert page.head == self._head
                yield [record.sequence if isinstance(record, Record) else type(record) for record in page.records]


@pytest.fixture(scope="module")
def story() -> Story:
    story = Story()
    story.admit("bob", "cyd", "dan", "eve")
    return story


async def test_each_page_is_asked_for_once_and_one_ahead(story: Story) -> None:
    log = Log(story.records, story.directory.head, 2)
    seen = []
    async for page in log.read():
        await asyncio.sleep(0)
        seen.append((page, list(log.asked)))
    assert seen == [([1, 2], [0, 2]), ([3, 4], [0, 2, 4]), ([5], [0, 2, 4])]


@pytest.mark.parametrize(("after", "pages"), [(5, [[]]), (3, [[4, 5]])])
async def test_it_goes_on_where_it_is_told_to(story: Story, after: int, pages: list[list[int]]) -> None:
    log = Log(story.records, story.directory.head, 2)
    assert [page async for page in log.read(after)] == pages
    assert log.asked == [after]


async def test_a_head_that_is_not_shown_is_asked_for_once_more_and_no_further(story: Story) -> None:
    log = Log(story.records[:2], story.directory.head, 2)
    assert [page async for page in log.read()] == [[1, 2], []]
    assert log.asked == [0, 2]


async def test_a_page_that_cannot_be_had_ends_it_after_those_before(story: Story) -> None:
    pages = Log(story.records, story.directory.head, 2, fails=2).read()
    assert await anext(pages) == [1, 2]
    with pytest.raises(Unreachable):
        await anext(pages)


async def test_the_first_record_that_does_not_hold_ends_its_page(story: Story) -> None:
    records = [*story.records[:1], story.records[1][:-6] + b"AAAAAA", *story.records[2:]]
    log = Log(records, story.directory.head, 5)
    assert [page async for page in log.read()] == [[1, MalformedRecord]]


async def test_who_stops_reading_asks_for_nothing_more(story: Story) -> None:
    log = Log(story.records, story.directory.head, 1)
    async with aclosing(read_pages(log.fetch, 0)) as pages:
        await anext(pages)
        await asyncio.sleep(0)
    assert log.asked == [0, 1]
    assert log.ended == [0, 1]


async def test_a_page_large_enough_for_several_threads_is_in_order() -> None:
    story = Story()
    while story.directory.head.sequence < 3 * SHARE:
        who = f"user{story.directory.head.sequence}"
        story.admit(who)
    assert [page async for page in Log(story.records, story.directory.head, 500).read()] == [
        list(range(1, 3 * SHARE + 1))
    ]
