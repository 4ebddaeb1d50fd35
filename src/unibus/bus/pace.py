"""How much each user sends: buckets filled by what nats-server has counted, and who is kept out for a while. Pure.

A client of ours carries many messages in a frame, waits for acknowledgements, and stays far below. nats-server itself
sets no pace, and all that is stored goes through one queue, in which everybody else then waits. Must never look into a
message, and never judge by what a connection did long ago.
"""

from dataclasses import dataclass

MESSAGES = 1_500
"""A second of one user, without end. From some thousands on others wait for long; a client of ours sends hundreds."""
MESSAGES_AT_ONCE = 10_000
"""What may come beyond that: stored within two or three seconds, after which nobody waits any more."""
BYTES = 256 << 20
"""A second of one user, without end. The most that a client of ours was seen to store alone are 214 MiB."""
BYTES_AT_ONCE = 5 * BYTES
KEPT_OUT = 10.0
"""Seconds that whoever sent more is kept out: what had come of it is stored by then, and a new burst is allowed."""


@dataclass(frozen=True, slots=True)
class Received:
    """What nats-server has taken from a connection since that began."""

    messages: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Bucket:
    """What a user has sent beyond the pace, as it was at the time `at`."""

    at: float
    messages: float = 0.0
    bytes: float = 0.0

    def leak(self, now: float) -> None:
        self.messages = max(0.0, self.messages - MESSAGES * (now - self.at))
        self.bytes = max(0.0, self.bytes - BYTES * (now - self.at))
        self.at = now


class Pace:
    """What each user has sent over all of its connections. Times are in seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._counted: dict[int, Received] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._until: dict[str, float] = {}

    def count(self, cid: int, user: str, received: Received, now: float) -> None:
        """Connection `cid` of `user` has sent that much by now; what it was counted with before is not counted anew."""
        before = self._counted.get(cid, Received())
        self._counted[cid] = received
        bucket = self._buckets.setdefault(user, _Bucket(now))
        bucket.leak(now)
        bucket.messages += max(0, received.messages - before.messages)
        bucket.bytes += max(0, received.bytes - before.bytes)

    def gone(self, cid: int, user: str, received: Received, now: float) -> None:
        """Connection `cid` has ended; "" is nobody's. Who sends all in many short connections is counted here."""
        if user:
            self.count(cid, user, received, now)
        self._counted.pop(cid, None)

    def too_fast(self, now: float) -> list[str]:
        """The users who have sent too much by now; who has not sent for a while is forgotten."""
        for bucket in self._buckets.values():
            bucket.leak(now)
        self._buckets = {user: one for user, one in self._buckets.items() if one.messages or one.bytes}
        return [
            user for user, one in self._buckets.items() if one.messages > MESSAGES_AT_ONCE or one.bytes > BYTES_AT_ONCE
        ]

    def keep_out(self, user: str, now: float) -> None:
        """Not to be let in for a while, and then with a new bucket."""
        self._until = {one: until for one, until in self._until.items() if until > now}
        self._until[user] = now + KEPT_OUT
        self._buckets.pop(user, None)

    def kept_out(self, user: str, now: float) -> bool:
        """Whether that holds now."""
        return self._until.get(user, now) > now
