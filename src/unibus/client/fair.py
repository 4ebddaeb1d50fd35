"""A bounded memory of sessions, from which no sender can push another's: who has most loses one first. Pure."""

from collections import Counter, OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")
Key = tuple[str, bytes]
"""Sender and session."""


class Fair(Generic[T]):
    """What is known of at most `most` sessions. Of one sender's those go first that were heard of longest ago."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._sessions: OrderedDict[Key, T] = OrderedDict()
        self._by: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, key: Key) -> T | None:
        """What was put last."""
        return self._sessions.get(key)

    def put(self, key: Key, known: T) -> str | None:
        """Note what is known, as the newest; whose session had to go for it, if one had to."""
        if key not in self._sessions:
            self._by[key[0]] += 1
        self._sessions[key] = known
        self._sessions.move_to_end(key)
        if len(self._sessions) <= self._most:
            return None
        sender = max(self._by, key=self._by.__getitem__)
        del self._sessions[next(each for each in self._sessions if each[0] == sender)]
        self._by[sender] -= 1
        return sender
