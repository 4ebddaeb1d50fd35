"""Which frames of a room an identity was shown, in any run of any of its processes: what a replay is measured against.

The bus numbers the frames, and nobody vouches for its numbers. A server could show an old frame under a new number to
whoever begins to read anew. So of each sender's session is kept which counters were shown, and up to which number:

1. A counter that was shown, or that lies far behind one that was, is not shown again under a higher number.
2. Sessions are forgotten, the one that was heard of longest ago first. Of its sender the time of its last frame is
   kept, as the sender signed it: a session nobody knows that is no newer than that is an old one, shown again.
3. A removal that a frame has made known stays known: see `client.judge`.
4. Of the numbers that were read last without a gap it is kept from where to where, so that a later reading that goes
   on from there knows which counters come next: see `client.order`.

What stands at numbers that were read before may be read again, any time: that is history. Only a reading of what is new
takes none of it: it has a number, the highest before it began, up to which nothing that was shown is shown again. Pure.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from unibus.client.order import NOT_BEGUN, Track
from unibus.crypto.encoding import b64u, unb64u
from unibus.crypto.frames import Content, Envelope, session_anew
from unibus.errors import FrameReplayed, InvalidInput

SESSIONS_KEPT = 256
WINDOW = 64  # counters of a session that are known one by one: four times as many as a sender has on their way
_MASK = (1 << WINDOW) - 1


@dataclass(slots=True)
class Session:
    """Frames of one session: the highest counter, the highest number (`at`), when it was sent (Unix milliseconds).

    Bit n of `recent` says that the counter `newest` - n was shown.
    """

    newest: int
    at: int
    sent_at: int
    recent: int

    def has(self, counter: int) -> bool:
        """Whether a frame of that counter was shown, or must have been."""
        behind = self.newest - counter
        return behind >= WINDOW or (behind >= 0 and bool(self.recent >> behind & 1))

    @property
    def counters(self) -> list[int]:
        """Those that are known one by one."""
        return [self.newest - behind for behind in range(WINDOW) if self.recent >> behind & 1]

    def add(self, counter: int, at: int, sent_at: int, recent: int = 1) -> None:
        """Note the frames of `recent` up to `counter`."""
        ahead = counter - self.newest
        if ahead >= 0:
            self.recent = (self.recent << ahead | recent) & _MASK if ahead < WINDOW else recent
            self.newest = counter
        else:
            self.recent = (self.recent | recent << -ahead) & _MASK
        self.at, self.sent_at = max(self.at, at), max(self.sent_at, sent_at)


class Seen:
    """What was shown of one room. `last` is the highest number, `room_head` and `directory_head` the newest heads that
    a frame has named."""

    def __init__(self) -> None:
        self.last = self.room_head = self.directory_head = 0
        self._whole = (0, 0)  # all frames were shown that stand after the one number, up to the other
        self._sessions: dict[tuple[str, bytes], Session] = {}
        self._floors: dict[str, int] = {}

    def check(self, envelope: Envelope, sent_at: int, at: int, begun: int | None) -> None:
        """Return if the frame under the number `at` may be what it is shown as. `begun` is None where history is read.

        Raises FrameReplayed.
        """
        if (envelope.sender, session_anew(envelope.session, envelope.counter)) in self._sessions:
            raise FrameReplayed(f"a frame of {envelope.sender[:12]}… was sealed anew, and both are shown")
        known = self._sessions.get((envelope.sender, envelope.session))
        unread = begun is not None and at <= begun
        if known is not None:
            if known.has(envelope.counter) and (at > known.at or unread):
                raise FrameReplayed(f"frame {envelope.counter} of {envelope.sender[:12]}… was shown before, elsewhere")
        elif self._was_sealed_anew(envelope):
            raise FrameReplayed(f"a frame of {envelope.sender[:12]}… was sealed anew, and both are shown")
        elif (at > self.last or unread) and sent_at <= self._floors.get(envelope.sender, -1):
            raise FrameReplayed(
                f"a frame of {envelope.sender[:12]}… from before others that were shown: it is an old one, or its"
                " sender's clock went back"
            )

    def note(self, envelope: Envelope, content: Content, at: int) -> None:
        """The frame was shown and believed."""
        self._add((envelope.sender, envelope.session), Session(envelope.counter, at, content.sent_at, 1))
        self.last = max(self.last, at)
        self.room_head = max(self.room_head, content.room_head.sequence)
        self.directory_head = max(self.directory_head, content.directory_head.sequence)

    def _was_sealed_anew(self, envelope: Envelope) -> bool:
        """Whether the first frame of its session here has the same messages as one that was shown."""
        sender, session, counter = envelope.sender, envelope.session, envelope.counter
        return counter == 0 and any(
            session_anew(id_, each) == session
            for (by, id_), known in self._sessions.items()
            if by == sender
            for each in known.counters
        )

    def cover(self, after: int, upto: int) -> None:
        """All frames were shown that stand after the number `after`, up to `upto`."""
        begin, end = self._whole
        if after <= end and upto >= begin:
            self._whole = (min(begin, after), max(end, upto))
        elif upto > end:
            self._whole = (after, upto)

    def uncover(self, at: int) -> None:
        """What stands at the number `at` was refused: of what is up to there nothing is certain."""
        self._whole = (max(self._whole[0], at), max(self._whole[1], at))

    def track(self, envelope: Envelope, at: int) -> Track | None:
        """How far the frame's session was shown before the number `at`, by any run; None if that is not known."""
        begin, end = self._whole
        if at <= end:
            return None
        known = self._sessions.get((envelope.sender, envelope.session))
        if known is not None:
            return Track(known.newest, known.sent_at) if known.at > begin else None
        return NOT_BEGUN if begin == 0 and envelope.sender not in self._floors else None

    def merge(self, other: "Seen") -> None:
        """Take over what another process of the same identity was shown."""
        for sender, floor in other._floors.items():  # noqa: SLF001 - its own
            self._raise_floor(sender, floor)
        for key, session in other._sessions.items():  # noqa: SLF001 - the same
            self._add(key, session)
        self.last = max(self.last, other.last)
        self.room_head = max(self.room_head, other.room_head)
        self.directory_head = max(self.directory_head, other.directory_head)
        self.cover(*other._whole)  # noqa: SLF001 - the same

    def dump(self) -> dict[str, object]:
        """What `load` reads."""
        sessions: dict[str, list[list[object]]] = {}
        for (sender, session), found in self._sessions.items():
            facts = [b64u(session), found.newest, found.at, found.sent_at, found.recent]
            sessions.setdefault(sender, []).append(facts)
        return {
            "last": [self.last, self.room_head, self.directory_head],
            "whole": list(self._whole),
            "floors": self._floors,
            "sessions": sessions,
        }

    def _add(self, key: tuple[str, bytes], found: Session) -> None:
        known = self._sessions.get(key)
        if known is not None:
            known.add(found.newest, found.at, found.sent_at, found.recent)
            return
        self._sessions[key] = Session(found.newest, found.at, found.sent_at, found.recent)
        if len(self._sessions) > SESSIONS_KEPT:
            oldest = min(self._sessions, key=lambda each: self._sessions[each].at)
            self._raise_floor(oldest[0], self._sessions.pop(oldest).sent_at)

    def _raise_floor(self, sender: str, floor: int) -> None:
        self._floors[sender] = max(floor, self._floors.get(sender, -1))


def load_seen(found: object) -> Seen:
    """What `Seen.dump` gave. Raises InvalidInput for anything else."""
    seen = Seen()
    match found:
        case {"last": [last, room_head, directory_head], "floors": dict(floors), "sessions": dict(sessions), **more}:
            seen.last, seen.room_head, seen.directory_head = map(_number, (last, room_head, directory_head))
            seen._whole = _interval(more.get("whole", [seen.last, seen.last]))  # noqa: SLF001 - its own
            for sender, floor in floors.items():
                seen._raise_floor(sender, _number(floor))  # noqa: SLF001 - its own
            for key, session in _sessions(sessions):
                seen._add(key, session)  # noqa: SLF001 - its own
            return seen
        case _:
            raise InvalidInput("not what a client remembers of a room")


def _sessions(found: dict[str, object]) -> Iterator[tuple[tuple[str, bytes], Session]]:
    for sender, sessions in found.items():
        for facts in sessions if isinstance(sessions, list) else [None]:
            match facts:
                case [str(session), newest, at, sent_at, recent]:
                    numbers = (_number(newest), _number(at), _number(sent_at), _number(recent) & _MASK)
                    yield (sender, unb64u(session, size=16)), Session(*numbers)
                case _:
                    raise InvalidInput("not what a client remembers of a session")


def _interval(found: object) -> tuple[int, int]:
    match found:
        case [after, upto]:
            return _number(after), _number(upto)
        case _:
            raise InvalidInput("not numbers that a client has read")


def _number(found: object) -> int:
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise InvalidInput("not a number that a client remembers")
    return found
