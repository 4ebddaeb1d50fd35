"""Who waits to be let in, and who is next: pure, over times that are given.

After a restart all clients come at once, and each is given up on by nats-server a moment later. If the first to come
were always the first to be looked at, then under more than can be done in time everybody would be looked at too late,
and come again: a storm that feeds itself. So whoever comes last is next as soon as others have to wait, and who has
waited too long is passed over without a word: an answer would cost as much as letting somebody in who still listens.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

FAIR = 0.25
"""Seconds that everybody may have to wait, in the order of coming."""
LATE = 1.5
"""Seconds after which an answer comes too late, or hardly in time: see `config.AUTH_TIMEOUT`."""
MOST = 20_000
"""Who wait at once; each is some kilobytes."""


class LoginQueue(Generic[T]):
    """Logins that wait. Times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, T]] = deque(maxlen=MOST)

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, one: T, now: float) -> None:
        """`one` waits from now on; of too many, whoever waits longest does not any more."""
        self._waiting.append((now, one))

    def next(self, now: float) -> T | None:
        """Who is next, and waits no longer."""
        waiting = self._waiting
        while waiting and waiting[0][0] < now - LATE:
            waiting.popleft()
        if not waiting:
            return None
        _, one = waiting.popleft() if waiting[0][0] >= now - FAIR else waiting.pop()
        return one
