"""Whether an opened frame may be believed: pure rules over the frame, the room's log and the directory.

A frame is accepted only if
1. it has not been seen: its counter is new within its sender's session, and it was not shown elsewhere in another run;
   and, of what is stored, it comes after all that were made before it: see `client.order`;
2. the heads that the sender names are in the logs that this client verified: else the two were shown different logs;
3. the sender could write in the room at those heads, and also at the newest head that any earlier frame of the
   room named: nobody is heard again after their removal became known;
4. it is under the epoch that was current at the head it names, and nobody who holds that epoch's key had left the
   room or the bus by the heads it names: who knows of a departure never goes on under the old key.
"""

from unibus.client.fair import Fair
from unibus.client.order import NOT_BEGUN, Gap, Order, Track, gap
from unibus.client.seen import Seen
from unibus.crypto.frames import Content, Envelope
from unibus.errors import FrameInvalid, FrameReordered, FrameReplayed, LogForked, LogRolledBack, OldEpoch
from unibus.model.directory import Directory
from unibus.model.room import Room

SESSIONS_KEPT = 4096
REORDER = 256  # how far behind the newest counter of a session a frame may come


class Replays:
    """Which frames were seen, per sender and session. Bounded in both."""

    def __init__(self) -> None:
        self._sessions: Fair[tuple[int, set[int]]] = Fair(SESSIONS_KEPT)

    def admit(self, envelope: Envelope) -> None:
        """Note the frame. Raises FrameReplayed for one that was seen or comes far too late."""
        key = (envelope.sender, envelope.session)
        newest, recent = self._sessions.get(key) or (-1, set())
        if envelope.counter in recent or envelope.counter <= newest - REORDER:
            raise FrameReplayed(f"frame {envelope.counter} of a session of {envelope.sender[:12]}… was shown again")
        newest = max(newest, envelope.counter)
        recent.add(envelope.counter)
        if len(recent) > 2 * REORDER:
            recent = {counter for counter in recent if counter > newest - REORDER}
        self._sessions.put(key, (newest, recent))


class Judge:
    """The rules for one reader of one room, in the order in which the bus shows the frames.

    `seen` is what this identity was shown of the room, `begun` the number up to which that was when a reading of what
    is new began, None where history is read; see `client.seen`. Where all that is stored is read, `begin` says from
    where on; without that, frames may be missing and come in any order, as signals do.
    """

    def __init__(self, seen: Seen | None = None, begun: int | None = None) -> None:
        self._seen = Seen() if seen is None else seen
        self._begun = begun
        self._order: Order | None = None
        self._from_start = False
        self._whole_after = 0
        self._replays = Replays()
        # Numbers are the server's word: what is new comes after all that was shown, whatever number it has.
        self._room_seen = self._seen.room_head if begun is not None else 0
        self._directory_seen = self._seen.directory_head if begun is not None else 0
        self._last_asked = (0, 0, 0)
        self._last_answer = False

    def begin(self, after: int) -> None:
        """All that is stored after the number `after` will be shown from here on, in its order."""
        self._order = Order()
        self._from_start = after == 0
        self._whole_after = after
        self._seen.cover(after, after)

    def passed(self, at: int, *, refused: bool) -> None:
        """What stands at the number `at` was shown, and all before it since `begin`."""
        if refused:
            # What was refused is not remembered, and must not be called missing by a later run: that knows less then.
            self._whole_after = at
            self._seen.uncover(at)
        else:
            self._seen.cover(self._whole_after, at)

    def gap(self, envelope: Envelope, at: int) -> Gap | None:
        """What is missing before the frame, if it is one that its sender made."""
        return None if self._order is None else gap(envelope, self._track(self._order, envelope, at))

    def _track(self, order: Order, envelope: Envelope, at: int) -> Track | None:
        shown = order.track(envelope)
        if shown is not None:
            return shown
        if self._from_start and envelope.sender not in order.forgot:
            return NOT_BEGUN
        return self._seen.track(envelope, at)

    def accept(self, envelope: Envelope, content: Content, room: Room, directory: Directory, at: int = 0) -> None:
        """Return if the frame may be believed, which the bus shows under the number `at`.

        `room` and `directory` are as new as the server shows.

        Raises LogRolledBack, LogForked, FrameInvalid, OldEpoch, FrameReplayed, FrameReordered.
        """
        late = self._order is not None and self._order.meet(
            envelope, content.sent_at, self._track(self._order, envelope, at)
        )
        self._check_heads(envelope, content, room, directory, at)
        self._seen.check(envelope, content.sent_at, at, self._begun)
        self._replays.admit(envelope)
        if late:
            who = directory.handle_of(envelope.sender)
            raise FrameReordered(f"a frame of {who} comes after later ones: it was not stored in the order of sending")
        self._note(envelope, content, at)

    def _check_heads(self, envelope: Envelope, content: Content, room: Room, directory: Directory, at: int) -> None:
        who = directory.handle_of(envelope.sender)
        if content.room_head.sequence > room.head.sequence or (
            content.directory_head.sequence > directory.head.sequence
        ):
            raise LogRolledBack(f"{who} names records that the server does not show: one of the two is lying")
        if room.head_at(content.room_head.sequence) != content.room_head:
            raise LogForked(f"{who} was shown another log of this room than you: the server or {who} is lying")
        if directory.head_at(content.directory_head.sequence) != content.directory_head:
            raise LogForked(f"{who} was shown another directory than you: the server or {who} is lying")
        room_seen, directory_seen = self._known(at)
        for head in {content.room_head.sequence, max(content.room_head.sequence, room_seen)}:
            if not room.could_write(envelope.sender, head):
                raise FrameInvalid(f"{who} could not write in this room when this was sent")
        for head in {content.directory_head.sequence, max(content.directory_head.sequence, directory_seen)}:
            if not directory.active_at(envelope.sender, head):
                raise FrameInvalid(f"{who} was not on the bus when this was sent")
        if room.epoch_at(content.room_head.sequence) != envelope.epoch:
            raise OldEpoch(f"{who} used the key of epoch {envelope.epoch}, which was not the room's when this was sent")
        if self._spent(room, directory, envelope.epoch, content):
            raise OldEpoch(f"{who} knew that somebody had gone and still used a key which that one holds")

    def _known(self, at: int) -> tuple[int, int]:
        """The newest heads of room and directory that were named before the number `at`."""
        seen = self._seen
        if at <= seen.last:
            return self._room_seen, self._directory_seen
        # What nobody of this identity has read before: what any of them knows of removals holds here too.
        return max(self._room_seen, seen.room_head), max(self._directory_seen, seen.directory_head)

    def _note(self, envelope: Envelope, content: Content, at: int) -> None:
        self._room_seen = max(self._room_seen, content.room_head.sequence)
        self._directory_seen = max(self._directory_seen, content.directory_head.sequence)
        self._seen.note(envelope, content, at)

    def _spent(self, room: Room, directory: Directory, epoch: int, content: Content) -> bool:
        """Whether, by the heads that the frame names, somebody holds the epoch's key who is no longer a member."""
        asked = (epoch, content.room_head.sequence, content.directory_head.sequence)
        if self._last_asked != asked:
            self._last_asked = asked
            state = room.epochs[epoch]
            # Who left before the epoch began, and holds its key because they came back later, had not got it then.
            self._last_answer = any(
                room.left_at(user, content.room_head.sequence, since=state.began)
                or directory.revoked_at(user, content.directory_head.sequence)
                for user in room.holders(epoch)
            )
        return self._last_answer
