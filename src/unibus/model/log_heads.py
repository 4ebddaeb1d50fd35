"""All heads that a log has had, in 32 bytes each: a log may be longer than what else is known of it. Pure."""

from dataclasses import dataclass, field

from unibus.crypto.heads import EMPTY, Head

_SIZE = len(EMPTY.digest)


@dataclass(slots=True)
class LogHeads:
    """The heads after records 1, 2, …; `last` is the newest, EMPTY before there is one."""

    last: Head = EMPTY
    _digests: bytearray = field(default_factory=bytearray)

    def append(self, head: Head) -> None:
        """Add the head that follows `last`."""
        self.last = head
        self._digests += head.digest

    def at(self, sequence: int) -> Head | None:
        """The head as it was after record `sequence`, or None if there is no such record yet."""
        if not 0 < sequence <= self.last.sequence:
            return None
        return Head(sequence, bytes(self._digests[(sequence - 1) * _SIZE : sequence * _SIZE]))
