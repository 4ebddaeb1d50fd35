"""What the application gets: messages, and reports of frames that were refused. Values only."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count, repeat
from typing import NamedTuple

from unibus.errors import FrameMissing, InvalidInput, UnibusError


class Position(NamedTuple):
    """A place in a room's history: the bus's number of the frame, and the message's offset in it. Sortable.

    Reading `since` a position gives what comes after it.
    """

    sequence: int
    offset: int

    def __str__(self) -> str:
        return f"{self.sequence}.{self.offset}"


START = Position(0, 0)


def parse_position(text: str) -> Position:
    """The position behind its text, such as `17.0`. Raises InvalidInput."""
    sequence, _, offset = text.partition(".")
    if not (sequence.isascii() and sequence.isdigit() and offset.isascii() and offset.isdigit()) or len(text) > 32:
        raise InvalidInput(f"a position looks like 17.0, not {text!r}")
    return Position(int(sequence), int(offset))


class Message(NamedTuple):
    """One verified message: `sender` is a member's public nkey, `handle` their name, `data` what they sent."""

    room: str
    sender: str
    handle: str
    data: bytes
    sent_at: datetime
    position: Position

    @property
    def text(self) -> str:
        """`data` as UTF-8 text; what is not UTF-8 is replaced."""
        return self.data.decode(errors="replace")


# Without the lines of Python that a NamedTuple runs for each.
_position = partial(tuple.__new__, Position)
_message = partial(tuple.__new__, Message)


def messages_of_frame(
    room: str, sender: str, handle: str, sent_at: datetime, sequence: int, data: Sequence[bytes], first: int = 0
) -> Iterator[Message]:
    """The messages of the frame with the number `sequence`, from the offset `first` on.

    Each is made when it is asked for: thousands alive at once cost more in garbage collection than in making.
    """
    positions = map(_position, zip(repeat(sequence), count(first)))
    return map(_message, zip(repeat(room), repeat(sender), repeat(handle), data[first:], repeat(sent_at), positions))


def from_unix_ms(value: int) -> datetime:
    """A sender's clock as a time; what no calendar can show becomes the epoch's beginning."""
    try:
        return datetime.fromtimestamp(value / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A frame that was not accepted: where it stood in the room's stream, who it says sent it, and why.

    `sequence` is 0 for a signal or a blob, which stand nowhere in it. With FrameMissing it is the frame before which
    others are missing, and that one is not refused.
    """

    room: str
    sequence: int
    sender: str | None
    error: UnibusError

    @property
    def what(self) -> str:
        """What is amiss with which frame, in a few words."""
        if isinstance(self.error, FrameMissing):
            return f"something is missing before frame {self.sequence}"
        return f"refused frame {self.sequence}" if self.sequence else "refused what is no stored frame"
