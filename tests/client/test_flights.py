"""Frames on their way over a bus that loses, refuses and delays: each message once, and nothing honest looks amiss.

The model of the bus keeps what nats-server promises: one connection's frames are looked at in their order, a message id
is stored once, and a condition that does not hold is refused after the id was looked for.
"""

import random
import struct
from collections import deque
from dataclasses import dataclass, field

import pytest

from tests.builders import user
from unibus.client.batching import Batch
from unibus.client.flights import Flight, Flights
from unibus.client.order import NOT_BEGUN, Order, gap
from unibus.crypto import nkeys
from unibus.crypto.frames import OVERHEAD, Envelope, read_envelope

MESSAGES = 30
IN_FLIGHT = 8
IMPATIENCE = 0.02


def sealed(session: int, counter: int, unsettled: int) -> bytes:
    """What only looks like a frame, with a message id of its own."""
    key = nkeys.decode_public(user("ada"))
    header = struct.pack(">BI32s16sII", 1, 1, key, session.to_bytes(16, "big"), unsettled, counter)
    return header + bytes(OVERHEAD - 64 - len(header)) + struct.pack(">QQ48x", session, counter)


@dataclass
class Bus:
    """Stores frames; `fate` says of each publish what becomes of it."""

    fate: random.Random
    fates: list[str]
    stream: list[bytes] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)

    def take(self, flight_id: str, frame: bytes, *, asked: bool) -> str | int | None:
        """The answer, or None for none."""
        does = self.fate.choice(self.fates)
        if does in {"loses", "refuses"}:
            return "refused" if does == "refuses" else None
        if flight_id not in self.ids:
            if asked:
                return "absent" if does == "stores" else None
            self.stream.append(frame)
            self.ids[flight_id] = len(self.stream)
        return self.ids[flight_id] if does == "stores" else None


@dataclass
class Sender:
    """The thin edge around `Flights`, as the outbox is, without a clock."""

    bus: Bus
    loop_future: Batch
    flights: Flights = field(default_factory=Flights)
    wire: deque[tuple[Flight, str, bytes, int, bool]] = field(default_factory=deque)
    session: int = 0
    counter: int = 0
    anew: int = 0

    def seal(self, unsettled: int) -> bytes:
        frame = sealed(self.session, self.counter, min(unsettled, self.counter))
        self.counter += 1
        return frame

    def publish(self, flight: Flight) -> None:
        asked = flight.state == "asked"
        self.wire.append((flight, flight.message_id, flight.frame, self.flights.round, asked))

    def step(self, fresh: int) -> int:
        """Publish what is due; how many new frames were sent of `fresh`."""
        if self.flights.held:
            overtaken = self.flights.overtaken
            for flight in overtaken:
                self.anew += 1
                flight.reseal(sealed(2**63 + self.anew, 0, 0))
            if overtaken:
                self.session, self.counter = self.session + 1, 0
            for flight in self.flights.due():
                self.publish(flight)
            return 0
        sent = min(fresh, IN_FLIGHT - len(self.flights))
        for _ in range(sent):
            flight = Flight(self.seal(self.flights.unsettled), self.loop_future, 0, 0)
            self.flights.add(flight)
            self.publish(flight)
        return sent

    def hear(self) -> None:
        """Have the bus look at the next publish, and take its answer."""
        flight, message_id, frame, in_round, asked = self.wire.popleft()
        answer = self.bus.take(message_id, frame, asked=asked)
        if self.flights.find(message_id) is not flight:
            return
        if isinstance(answer, int):
            self.flights.stored(flight)
        elif answer == "absent":
            self.flights.absent(flight, in_round)
        elif answer == "refused":
            self.flights.later(flight)


def read(stream: list[bytes]) -> list[Envelope]:
    """What a reader from the start believes; fails if it would name anything."""
    order, got = Order(), []
    for frame in stream:
        envelope = read_envelope(frame)
        track = order.track(envelope) or NOT_BEGUN
        assert gap(envelope, track) is None, "nothing is called missing"
        assert not order.meet(envelope, 0, track), "nothing comes late"
        got.append(envelope)
    return got


@pytest.mark.parametrize(
    "troubles",
    [["loses"], ["refuses"], ["stores unheard"], ["loses", "refuses", "stores unheard"]],
    ids=" ".join,
)
@pytest.mark.parametrize("good", [2, 20])
def test_each_message_is_stored_once_and_readers_find_nothing_amiss(troubles: list[str], good: int) -> None:
    most = 0
    for seed in range(100):
        fate = random.Random(seed)  # noqa: S311 - a test's choices, the same each time
        bus = Bus(fate, ["stores"] * good * len(troubles) + troubles)
        sender = Sender(bus, Batch([]))  # nobody waits for it here
        left = MESSAGES
        for _ in range(10_000):
            left -= sender.step(fate.randint(0, left))
            if not left and not len(sender.flights):
                break
            if sender.wire and fate.random() > IMPATIENCE:
                sender.hear()
            elif sender.flights.open:
                sender.flights.trouble()  # no answer in time, though one may still be on its way
        else:
            raise AssertionError(f"it goes on for ever with seed {seed}")
        envelopes = read(bus.stream)
        assert len(envelopes) == len({(one.session, one.counter) for one in envelopes}) == MESSAGES
        most = max(most, sender.session)
    # What is stored and only not acknowledged is never sealed anew: it would come twice.
    assert (most == 0) == (troubles == ["stores unheard"])
