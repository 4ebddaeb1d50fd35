"""The pages of a log, the next one on its way while one is read. Decides nothing about what they hold."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from unibus.crypto.encoding import unb64u
from unibus.crypto.heads import Head
from unibus.errors import UnibusError
from unibus.model.records import Record, read_records
from unibus.model.wire import RecordsPage
from unibus.tasks import end_tasks, spread


@dataclass(frozen=True, slots=True)
class Page:
    """Records in order, the last one perhaps the reason why it, and all behind it, is none; and the head shown."""

    records: Sequence[Record | UnibusError]
    head: Head


async def read_pages(fetch: Callable[[int], Awaitable[RecordsPage]], after: int) -> AsyncGenerator[Page, None]:
    """All pages after record `after`, as `fetch` gives them for the number of a record. Raises as `fetch`.

    Ends with the page that reaches the head which it shows, or holds no records. Close it when it is left before.
    """
    fetching = asyncio.ensure_future(fetch(after))
    try:
        while True:
            found = await fetching
            after += len(found.records)
            last = not found.records or after >= found.head.sequence
            if not last:
                fetching = asyncio.ensure_future(fetch(after))
            records = await spread(read_records, [text.encode() for text in found.records])
            yield Page(records, Head(found.head.sequence, unb64u(found.head.hash, size=32)))
            if last:
                return
    finally:
        await end_tasks(fetching)
