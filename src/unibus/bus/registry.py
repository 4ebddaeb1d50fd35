"""Which connections there are, and whose: what a revocation must reach. Pure state; the plane acts on the answers.

Must never forget a connection that may still be alive: one asked for stays until it is gone, or until it can no
longer come to life.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

FORGET_AFTER = 10.0
"""Seconds after which a connection that never came up cannot any more: the server gave up on it long before."""


@dataclass(slots=True)
class Connection:
    """One connection, from its request on. `rooms` are those it carries, None while that is undecided."""

    cid: int
    user: str
    asked_at: float
    rooms: frozenset[str] | None = None
    alive: bool = False
    revoked: bool = False

    def may_carry(self, room: str) -> bool:
        """Whether it carries `room`, or may once it is decided."""
        return self.rooms is None or room in self.rooms


class Registry:
    """All connections of members at one server, by their number there (`cid`)."""

    def __init__(self) -> None:
        self._all: dict[int, Connection] = {}
        self._waiting: dict[int, Connection] = {}
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return sum(1 for connection in self._all.values() if connection.alive)

    def asked(self, cid: int, user: str, now: float) -> Connection:
        """Remember that connection `cid` of `user` wants to come in, at the time `now` in seconds.

        One that is in already stays what it is: the server asks again after it took in a changed configuration.
        """
        if (known := self.known(cid)) is not None and known.user == user:
            return known
        while self._waiting and (oldest := next(iter(self._waiting.values()))).asked_at < now - FORGET_AFTER:
            self.gone(oldest.cid)
        self.gone(cid)
        connection = Connection(cid, user, now)
        self._held[user] += 1
        self._all[cid] = self._waiting[cid] = connection
        return connection

    def known(self, cid: int) -> Connection | None:
        """Connection `cid`, if it was asked for and is not gone."""
        return self._all.get(cid)

    def user_of(self, cid: int) -> str:
        """Whose connection `cid` is; "" for one that is not known."""
        known = self._all.get(cid)
        return known.user if known is not None else ""

    def held_by(self, user: str) -> int:
        """How many connections `user` has, or is getting."""
        return self._held[user]

    def came_up(self, cid: int) -> bool:
        """Connection `cid` is alive. Whether it may stay: False if it was revoked on its way in, or never asked."""
        connection = self._all.get(cid)
        if connection is None:
            return False
        connection.alive = True
        self._waiting.pop(cid, None)
        return not connection.revoked

    def gone(self, cid: int) -> None:
        """Connection `cid` is no more."""
        left = self._all.pop(cid, None)
        self._waiting.pop(cid, None)
        if left is not None:
            self._held[left.user] -= 1
            if not self._held[left.user]:
                del self._held[left.user]

    def revoke(self, user: str, room: str | None = None) -> list[int]:
        """Mark what `user` has, or only what carries `room`, as revoked; the numbers of those connections."""
        return _revoke(one for one in self._all.values() if one.user == user and (room is None or one.may_carry(room)))

    def revoke_all(self) -> list[int]:
        """Mark everything as revoked; the numbers of what was not before."""
        return _revoke(one for one in self._all.values() if not one.revoked)


def _revoke(reached: Iterable[Connection]) -> list[int]:
    numbers = []
    for connection in reached:
        connection.revoked = True
        numbers.append(connection.cid)
    return numbers
