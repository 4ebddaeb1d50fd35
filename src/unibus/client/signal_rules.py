"""What a signal may be, as pure rules: its size, its age, and what the parts of one to a single member mean.

A signal is a frame of its own purpose that is never stored. One to all holds one part: the data. One to a single member
holds three: what it is (`question`, `answer` or `declined`), the question's random id, and the data.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from unibus.crypto.frames import OVERHEAD, PER_MESSAGE, Content
from unibus.errors import FrameInvalid, SignalStale, TooLarge
from unibus.model.subjects import ALL

MAX_SIGNAL = 65_536
"""Bytes of data in a signal, a question or an answer."""
FRESH_SECONDS = 30
"""How far a signal's time may be from the clock of who hears it, either way."""
ID_BYTES = 16
QUESTION, ANSWER, DECLINED = b"question", b"answer", b"declined"
# No frame above this holds a signal: it need not be opened, nor kept until it is looked at.
MAX_FRAME = OVERHEAD + 3 * PER_MESSAGE + len(QUESTION) + ID_BYTES + MAX_SIGNAL


class Signal(NamedTuple):
    """One verified signal: `sender` is a member's public nkey, `handle` their name, `data` what they sent."""

    room: str
    sender: str
    handle: str
    data: bytes
    sent_at: datetime

    @property
    def text(self) -> str:
        """`data` as UTF-8 text; what is not UTF-8 is replaced."""
        return self.data.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Directed:
    """What a signal to one member says. `kind` is QUESTION, ANSWER or DECLINED."""

    kind: bytes
    id: bytes
    data: bytes

    @property
    def parts(self) -> tuple[bytes, ...]:
        return self.kind, self.id, self.data


def check_size(data: bytes) -> bytes:
    """`data` if it fits into a signal. Raises TooLarge."""
    if len(data) > MAX_SIGNAL:
        raise TooLarge(f"a signal is at most {MAX_SIGNAL} bytes: send a message, or a blob")
    return data


def check_fresh(content: Content, now: float, who: str) -> None:
    """Return if the signal was sent about `now`, in Unix seconds, by its sender's clock. Raises SignalStale."""
    age = now - content.sent_at / 1000
    if abs(age) > FRESH_SECONDS:
        when = "ago" if age > 0 else "ahead"
        raise SignalStale(f"a signal from {who} is from {abs(age):.0f} s {when}: kept back, or one clock is wrong")


def read_signal(content: Content) -> bytes:
    """The data of a signal to all. Raises FrameInvalid."""
    match content.messages:
        case (data,) if len(data) <= MAX_SIGNAL:
            return data
        case _:
            raise FrameInvalid("a signal that is larger than one may be, or not one part")


def read_directed(content: Content) -> Directed:
    """What a signal to one member says. Raises FrameInvalid."""
    match content.messages:
        case (b"question" | b"answer" | b"declined" as kind, id_, data) if (
            len(id_) == ID_BYTES and len(data) <= MAX_SIGNAL
        ):
            return Directed(kind, id_, data)
        case _:
            raise FrameInvalid("a signal to one member that is neither question nor answer")


def addressee(subject: str) -> str:
    """To whom a signal on `subject` went: `all` or a user. Whoever takes it for that checks the whole subject."""
    return subject.rpartition(".")[2]


def check_addressee(to: str, user: str) -> None:
    """Return if what is meant for `to` is for `user` to hear. Raises FrameInvalid."""
    if to not in {ALL, user}:
        raise FrameInvalid("a signal to somebody else, shown here")
