"""Whether one sender's frames of a session are shown whole and in order: pure, over the counters in the frames.

What an honest sender has stored of a session stands in the order of its counters, and none is left out: what was not
stored before a later one is sealed anew elsewhere, see `client.flights`. Only of the frames that were on their way
together does no reader know whether all were stored. Each frame says how many those were (`unsettled`), and a gap among
them proves nothing until a later frame says that they are there.

What was dropped because the room asked for it is not missing, see `explained`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from unibus.client.fair import Fair
from unibus.crypto.frames import Envelope
from unibus.model.bodies import RoomRetention

SESSIONS_KEPT = 4096
CLOCKS = 300
"""Seconds that a sender's clock may differ from the bus's before a frame that retention dropped is called missing."""


@dataclass(frozen=True, slots=True)
class Track:
    """How far a session was shown: its highest counter (-1 for none), and when that frame was sent (Unix ms).

    `open` are counters below it that were skipped, and may never have been stored.
    """

    newest: int
    sent_at: int | None = None
    open: frozenset[int] = frozenset()


NOT_BEGUN = Track(-1)


@dataclass(frozen=True, slots=True)
class Gap:
    """So many frames that were stored and not shown, after one that was sent at `sent_at` (Unix ms), if it is known."""

    frames: int
    sent_at: int | None


class Order:
    """The sessions that one reading was shown. Bounded: `forgot` are those senders of whom some were dropped."""

    def __init__(self) -> None:
        self._sessions: Fair[Track] = Fair(SESSIONS_KEPT)
        self.forgot: set[str] = set()

    def track(self, envelope: Envelope) -> Track | None:
        """How far the frame's session was shown in this reading, or None."""
        return self._sessions.get((envelope.sender, envelope.session))

    def meet(self, envelope: Envelope, sent_at: int, track: Track | None) -> bool:
        """Note a frame that its sender made, believed or not; whether it comes after a later one of its session.

        `track` is how far the session was shown before, None if that is not known.
        """
        key, counter = (envelope.sender, envelope.session), envelope.counter
        if track is None:
            track = Track(counter, sent_at)
        late = counter < track.newest
        skipped = range(max(track.newest + 1, envelope.settled), counter)
        still = frozenset(each for each in track.open if each >= envelope.settled and each != counter)
        newest = Track(track.newest, track.sent_at) if late else Track(counter, sent_at)
        dropped = self._sessions.put(key, Track(newest.newest, newest.sent_at, still | frozenset(skipped)))
        if dropped is not None:
            self.forgot.add(dropped)
        return late


def gap(envelope: Envelope, track: Track | None) -> Gap | None:
    """What the frame proves to be missing before it, which `track` does not show; None if it proves nothing."""
    if track is None:
        return None
    skipped = max(0, min(envelope.settled, envelope.counter) - track.newest - 1)
    skipped += sum(each < envelope.settled for each in track.open if each != envelope.counter)
    return Gap(skipped, track.sent_at) if skipped else None


def explained(found: Gap, retentions: Iterable[RoomRetention], now: float) -> bool:
    """Whether the bus may have dropped what is missing because the room asked for it, at the Unix time `now`.

    `retentions` are all that the room's log ever set. One by size can explain any gap: nobody else knows the sizes of
    what is gone.
    """
    limits = list(retentions)
    if any(limit.bytes is not None for limit in limits):
        return True
    seconds = [limit.seconds for limit in limits if limit.seconds is not None]
    if not seconds:
        return False
    return found.sent_at is None or now - found.sent_at / 1000 > min(seconds) - CLOCKS
