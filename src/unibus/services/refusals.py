"""How many refusals of whom are noted in the audit trail, or lines in a log, and how many were left out. Pure.

Everybody has an allowance of their own, so that nobody hides what others were refused by being refused often. Whoever
has proven no more than to have a key shares one with all such: keys cost nothing. Never keeps more than a bounded
number of actors in memory.
"""

from collections import OrderedDict

ACTOR_AT_ONCE, USERS_AT_ONCE, STRANGERS_AT_ONCE = 60, 600, 120
WITHIN = 3600.0
"""Seconds in which all of that comes back: on disk 1 MB a day of strangers and 5 of users, however often they ask."""
REMEMBERED = 4096  # actors; whoever was refused longest ago is forgotten first


class Allowance:
    """So many at once, which come back in `WITHIN` seconds. `now` is any clock in seconds, and may go back."""

    __slots__ = ("_at", "_left", "_most", "left_out")

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = float(most)
        self._at = 0.0
        self.left_out = 0

    def take(self, now: float) -> bool:
        """Whether one more may be had at `now`."""
        self._left = min(self._most, self._left + max(0.0, now - self._at) * self._most / WITHIN)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def note(self, now: float) -> int | None:
        """How many were left out before the one that may be noted at `now`; None if it may not: then it is, too."""
        if not self.take(now):
            self.left_out += 1
            return None
        left_out, self.left_out = self.left_out, 0
        return left_out


class Refusals:
    """The allowances of one node: of each user, of all users together, and of all strangers."""

    def __init__(self) -> None:
        self._each: OrderedDict[str, Allowance] = OrderedDict()
        self._users = Allowance(USERS_AT_ONCE)
        self._strangers = Allowance(STRANGERS_AT_ONCE)

    def __len__(self) -> int:
        return len(self._each)

    def take(self, actor: str | None, now: float) -> bool:
        """Whether a refusal of the user `actor`, None for a stranger, is noted at `now`; else it is counted."""
        allowance = self._of(actor)
        # Their own comes first: what is over that must not use up what all users have together.
        noted = allowance.take(now) and (actor is None or self._users.take(now))
        if not noted:
            allowance.left_out += 1
        return noted

    def left_out(self, actor: str | None) -> int:
        """How many of that actor's were left out since this was last asked."""
        allowance = self._strangers if actor is None else self._each.get(actor)
        if allowance is None:
            return 0
        number, allowance.left_out = allowance.left_out, 0
        return number

    def give_back(self, actor: str | None, number: int) -> None:
        """Count so many of that actor's as left out again: the entry that was to tell of them was not written."""
        if number:
            self._of(actor).left_out += number

    def _of(self, actor: str | None) -> Allowance:
        if actor is None:
            return self._strangers
        allowance = self._each.setdefault(actor, Allowance(ACTOR_AT_ONCE))
        self._each.move_to_end(actor)
        if len(self._each) > REMEMBERED:
            _, forgotten = self._each.popitem(last=False)
            self._strangers.left_out += forgotten.left_out  # told of at least there
        return allowance
