"""The reader's side of one delivery, without I/O: what each NATS message of it means and what to do about it.

The daemon's consumer pushes a room's frames, in the stream's order, without acknowledgements. Between them come
status messages: heartbeats, and flow control that must be answered once everything before it was handled. A gap in
the consumer's own numbering, or silence, means that something was lost: ask for a new delivery from the last
frame that was handled. Source: NATS JetStream's push consumers (ADR-8 headers, `$JS.ACK` reply tokens).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

HEARTBEAT = 2.0  # seconds between heartbeats, as the daemon sets up the consumer
SILENCE = 2.5 * HEARTBEAT
_ACK = re.compile(r"\$JS\.ACK\.[^.]+\.[^.]+\.[0-9]+\.([0-9]{1,20})\.([0-9]{1,20})\.[0-9]+\.([0-9]{1,20})")
_NUMBER = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Frame:
    """Handle these bytes; `sequence` is the frame's number in the stream, `subject` what it was published to.

    `pending` is how many more frames of the room were stored when the server sent this one.
    """

    sequence: int
    subject: str
    data: bytes
    pending: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Publish an empty message to `subject`, after all that came before was handled."""

    subject: str


@dataclass(frozen=True, slots=True)
class Reopen:
    """Something was lost: open a new delivery."""


@dataclass(frozen=True, slots=True)
class Idle:
    """All that is stored was delivered."""


Step = Frame | Reply | Reopen | Idle | None


class DeliveryState:
    """What a delivery has shown so far. `last` is the number of the last frame that was passed on."""

    def __init__(self, after: int) -> None:
        self.last = after
        self._consumed = 0

    def step(self, subject: str, reply: str, headers: Mapping[str, str] | None, data: bytes) -> Step:
        """What to do about one message of the delivery."""
        found = _ACK.fullmatch(reply)
        if found is None:
            return self._status(reply, headers) if headers and headers.get("Status") else None
        # What is stored is a frame whatever its headers say: they are its publisher's.
        sequence, consumed = int(found[1]), int(found[2])
        if consumed != self._consumed + 1:
            return Reopen()
        self._consumed = consumed
        if sequence <= self.last:
            return None
        self.last = sequence
        return Frame(sequence, subject, data, int(found[3]))

    def _status(self, reply: str, headers: Mapping[str, str]) -> Step:
        if headers["Status"] != "100":
            return Reopen()
        consumed = headers.get("Nats-Last-Consumer", "")
        delivered = int(consumed) if _NUMBER.fullmatch(consumed) else None
        if delivered is not None and delivered > self._consumed:
            return Reopen()
        if subject := reply or headers.get("Nats-Consumer-Stalled", ""):
            return Reply(subject) if subject.startswith("$JS.FC.") else None
        return Idle() if delivered == self._consumed else None
