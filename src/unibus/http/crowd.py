"""How many connections there are, in all and from each address, and which of them makes room for a newcomer. Pure.

Clients keep connections for a next request that often never comes, and strangers open some for no request at all: those
must never keep others out. Whoever is one too many is told so if there are few enough such, which take nobody's place.
"""

import math
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from typing import Protocol

FIRST_REQUEST_SECONDS = 5.0
"""For so long a connection that has not asked anything yet makes room only for who holds fewer."""


class Closable(Protocol):
    """A connection, as a crowd sees it."""

    def force_close(self) -> None:
        """End it."""


class Place(Enum):
    """What a connection is let do."""

    INSIDE = auto()
    TOLD = auto()
    """It is one too many: it may send one request, soon, and is told so."""
    NONE = auto()
    """There are so many that not even refusals can be said: it is to be closed."""


class _Tally:
    """So many connections at most, of one address no more than half of them; loopback, None, may have all."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.open: dict[Closable, str | None] = {}
        self.of: Counter[str | None] = Counter()

    def add(self, connection: Closable, address: str | None) -> None:
        self.open[connection] = address
        self.of[address] += 1

    def discard(self, connection: Closable) -> None:
        if connection in self.open:
            address = self.open.pop(connection)
            self.of[address] -= 1
            if not self.of[address]:
                del self.of[address]

    def too_many(self, address: str | None) -> bool:
        return address is not None and self.of[address] > max(1, self._most // 2)

    def fits(self, address: str | None) -> bool:
        return len(self.open) <= self._most and not self.too_many(address)


class Crowd:
    """The connections of one listener, `most` inside and as many that are told that they are too many.

    Where there is no room, an idle one makes some, which waits for a request: the longest idle of the address that has
    most connections, if that has more than the newcomer's. So whoever holds many keeps out nobody who holds few,
    however often they come again. `clock` gives seconds that never go back.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._inside = _Tally(most)
        self._told = _Tally(most)
        self._clock = clock
        # By address, the longest idle first, each with the time from which it makes room for any other.
        self._idle: dict[str | None, dict[Closable, float]] = {}

    def __len__(self) -> int:
        return len(self._inside.open) + len(self._told.open)

    def enter(self, connection: Closable, address: str | None) -> Place:
        """Count a connection, and make room for it."""
        self._inside.add(connection, address)
        if not self._inside.fits(address):
            idle = self._makes_room(address)
            if idle is not None:
                self.leave(idle)
                idle.force_close()
        if self._inside.fits(address):
            self._idle.setdefault(address, {})[connection] = self._clock() + FIRST_REQUEST_SECONDS
            return Place.INSIDE
        self._inside.discard(connection)
        self._told.add(connection, address)
        return Place.TOLD if self._told.fits(address) else Place.NONE

    def rests(self, connection: Closable) -> None:
        """It was answered, and may send another request or not."""
        if connection in self._inside.open:
            self._idle.setdefault(self._inside.open[connection], {})[connection] = -math.inf

    def works(self, connection: Closable) -> None:
        """It has sent a request."""
        address = self._inside.open.get(connection)
        idle = self._idle.get(address)
        if idle is not None:
            idle.pop(connection, None)
            if not idle:
                del self._idle[address]

    def leave(self, connection: Closable) -> None:
        """Count it no longer. Safe to call twice."""
        self.works(connection)
        self._inside.discard(connection)
        self._told.discard(connection)

    def _makes_room(self, address: str | None) -> Closable | None:
        """What makes room for a connection from `address`, which is counted already; None if nothing does."""
        now, too_many = self._clock(), self._inside.too_many(address)
        if self._idle and not too_many:
            heaviest = max(self._idle, key=self._inside.of.__getitem__)
            if self._inside.of[heaviest] > self._inside.of[address]:
                return next(iter(self._idle[heaviest]))
        # Whoever has idle ones does not take others' places, too; nor whoever has the half of all.
        own = too_many or address in self._idle
        crowds = [self._idle.get(address, {})] if own else self._idle.values()
        return next((each for idle in crowds for each, since in idle.items() if since <= now), None)
