"""Which records have taken effect on this node, of those that take something away: other nodes wait for that.

Must never say so of a record that somebody here has yet to be cut off for.
"""

import asyncio
from collections import OrderedDict

from unibus.errors import StorageUnavailable
from unibus.store.port import Store

MOST = 10_000
"""Records that are remembered; who asks does so within seconds of the append."""
UNTOLD = 1.0
"""Seconds after which a record that can be read here is told of, generously: that is one round of the event loop."""


class Followed:
    """`store` is what tells of the records, each to `begin` with; those it had before anybody listened are not told."""

    def __init__(self, store: Store, untold: float = UNTOLD, most: int = MOST) -> None:
        self._store = store
        self._untold = untold
        self._most = most
        self._begun: set[tuple[str, int]] = set()
        self._done: OrderedDict[tuple[str, int], asyncio.Event] = OrderedDict()

    def begin(self, log: str, position: int) -> None:
        """The record `position` of `log` is told of, and has no effect yet."""
        self._begun.add((log, position))

    def end(self, log: str, position: int) -> None:
        """It has, if it was one that takes something away."""
        if (log, position) in self._begun:
            self._begun.discard((log, position))
            self._event(log, position).set()

    async def until(self, log: str, position: int) -> None:
        """Return once the record has taken effect here, which may be never: who waits gives up by itself."""
        while not (event := self._event(log, position)).is_set():
            try:
                async with asyncio.timeout(self._untold):
                    await event.wait()
            except TimeoutError:
                # One that was there when this process began is in what it began with.
                if (log, position) not in self._begun and await self._stored(log, position):
                    event.set()

    async def _stored(self, log: str, position: int) -> bool:
        try:
            last = await self._store.last(log)
        except StorageUnavailable:
            return False
        return last is not None and last.position >= position and (log, position) not in self._begun

    def _event(self, log: str, position: int) -> asyncio.Event:
        event = self._done.setdefault((log, position), asyncio.Event())
        if len(self._done) > self._most:
            self._done.popitem(last=False)
        return event
