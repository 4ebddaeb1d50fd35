"""The frames of one room that are on their way, and what to publish next of them: pure, no I/O and no clock.

A frame goes out again as it is, under the same message id, so that the bus stores it once however often it is sent. But
a session's frames must stand in the order of their counters, and readers refuse one that comes after a later one. So as
soon as one was not stored at once, no new frame is sent, and first it is found out which were. The bus is asked by
publishing each frame again on a condition that never holds: it looks whether it knows the message id before it looks at
the condition, and stores nothing. They are asked from the last to the first: once a frame is known to be absent, what
was asked before it cannot have been stored after it. Then those that are absent go out, one after another: as they are,
or sealed anew, in a session made for it, where a later one of their own was stored. The old frame comes too late then;
and a bus that lied about it gains nothing, because readers never believe both: see `crypto.frames.session_anew`.
"""

from dataclasses import dataclass, field
from typing import Literal

from unibus.client.batching import Batch
from unibus.crypto.encoding import b64u
from unibus.crypto.frames import read_envelope

State = Literal["out", "asked", "doubt", "waiting", "absent", "stored"]
"""Published and unanswered; asked for; to be asked for; to be tried later; known not to be stored; stored."""


@dataclass(slots=True, eq=False)
class Flight:
    """One frame on its way. `message_id` cannot be guessed before the frame is seen: it is part of its signature.

    `on_way` is how many bytes were on their way with it when it was sent, itself included.
    """

    frame: bytes
    batch: Batch
    expires: float
    sent: float
    on_way: int = 0
    state: State = "out"
    message_id: str = field(init=False)
    session: bytes = field(init=False)
    counter: int = field(init=False)

    def __post_init__(self) -> None:
        self.message_id = b64u(self.frame[-64:-40])
        envelope = read_envelope(self.frame)
        self.session, self.counter = envelope.session, envelope.counter

    def reseal(self, frame: bytes) -> None:
        """Go on as another frame with the same messages."""
        self.frame = frame
        self.__post_init__()


class Flights:
    """Frames in the order in which they were sealed. Those that are stored stay until all before them are, too."""

    def __init__(self) -> None:
        self._all: list[Flight] = []
        self.held = False
        """Whether nothing new may be sent until it is known what was stored."""
        self.round = 0
        """Counts how often it was found out anew: an answer from an earlier round says nothing of now."""

    def __len__(self) -> int:
        return len(self._all)

    @property
    def size(self) -> int:
        """How many bytes of frames are on their way."""
        return sum(len(flight.frame) for flight in self.open)

    @property
    def open(self) -> list[Flight]:
        """Those that are not stored, in order."""
        return [flight for flight in self._all if flight.state != "stored"]

    def find(self, message_id: str) -> Flight | None:
        """The one with this id, unless it is stored."""
        return next((flight for flight in self.open if flight.message_id == message_id), None)

    @property
    def unsettled(self) -> int:
        """How many frames right before the next one of the same session may not be stored."""
        last = self._all[-1].session if self._all else None
        return sum(flight.session == last for flight in self._all)

    def add(self, flight: Flight) -> None:
        """A frame that is published now."""
        self._all.append(flight)
        flight.on_way = self.size

    def stored(self, flight: Flight) -> None:
        """The bus says that it has it."""
        flight.state = "stored"
        while self._all and self._all[0].state == "stored":
            self._all.pop(0)
        self.held = self.held and bool(self._all)

    def drop(self, flight: Flight) -> None:
        """It has failed and is not sent again."""
        self._all.remove(flight)
        while self._all and self._all[0].state == "stored":
            self._all.pop(0)
        self.held = self.held and bool(self._all)

    def absent(self, flight: Flight, in_round: int) -> None:
        """The bus was asked for it in that round, and did not have it."""
        if flight.state == "asked" and in_round == self.round:
            flight.state = "absent"

    def later(self, flight: Flight) -> None:
        """The bus could not say, or could not store it now."""
        flight.state, self.held = "waiting", True

    def trouble(self) -> None:
        """It is time to find out anew which were stored: a new connection, no answer in time, a pause that is over."""
        self.round += 1
        for flight in self.open:
            flight.state, self.held = "doubt", True

    @property
    def overtaken(self) -> list[Flight]:
        """Those that are absent while a later one of their session is stored: to be sealed anew, in this order."""
        if not self._settled:
            return []
        stored: set[bytes] = set()
        found: list[Flight] = []
        for flight in reversed(self._all):
            if flight.state == "stored":
                stored.add(flight.session)
            elif flight.session in stored:
                found.append(flight)
        return found[::-1]

    def due(self) -> list[Flight]:
        """What to publish now, in this order: of those that become `asked`, on the condition; of others to be stored.

        Nothing while answers are awaited. Those of `overtaken` are sealed anew before.
        """
        doubt = [flight for flight in self.open if flight.state == "doubt"]
        if doubt and len(self._all) > 1:
            for flight in doubt:
                flight.state = "asked"
            return doubt[::-1]
        # Alone: nothing can have overtaken it, so that it can as well be stored.
        first = doubt if doubt else self.open if self._settled else []
        for flight in first[:1]:
            flight.state = "out"
        return first[:1]

    @property
    def _settled(self) -> bool:
        return all(flight.state == "absent" for flight in self.open)
