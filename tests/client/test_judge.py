"""Whether an opened frame may be believed: a test for each rule, each from the side of who would break it."""

import json
from dataclasses import replace

import pytest

from tests.builders import user
from tests.client.world import World
from unibus.client.judge import REORDER, SESSIONS_KEPT, Judge, Replays
from unibus.client.order import NOT_BEGUN, Gap, Order, gap
from unibus.client.seen import Seen, load_seen
from unibus.crypto.frames import Content, Envelope
from unibus.crypto.heads import Head
from unibus.errors import FrameInvalid, FrameReplayed, LogForked, LogRolledBack, OldEpoch, UnibusError

SESSION = bytes(16)


class Scene:
    """Ada's room with bob, who writes, and rae, who reads; dan is on the bus and not in the room."""

    def __init__(self) -> None:
        self.world = World()
        self.world.admit("bob", "rae", "dan")
        self.room = self.world.create()
        self.world.add(self.room, "bob")
        self.world.add(self.room, "rae", "reader")
        self.judge = Judge()
        self.counter = 0

    def frame(self, by: str) -> tuple[Envelope, Content]:
        """What an honest `by` sends now."""
        state = self.world.rooms[self.room]
        self.counter += 1
        envelope = Envelope(state.epoch.number, user(by), SESSION, self.counter)
        return envelope, Content(0, state.head, self.world.directory.head, (b"hello",))

    def accept(self, frame: tuple[Envelope, Content], at: int = 0) -> None:
        self.judge.accept(*frame, self.world.rooms[self.room], self.world.directory, at)

    def refuses(self, frame: tuple[Envelope, Content], kind: type[UnibusError], words: str, at: int = 0) -> None:
        with pytest.raises(kind, match=words) as caught:
            self.accept(frame, at)
        assert type(caught.value) is kind


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_who_may_write_is_believed(scene: Scene) -> None:
    scene.accept(scene.frame("ada"))
    scene.accept(scene.frame("bob"))


def test_a_frame_is_believed_once(scene: Scene) -> None:
    frame = scene.frame("bob")
    scene.accept(frame)
    scene.refuses(frame, FrameReplayed, "shown again")


def test_a_refused_frame_does_not_use_up_its_number(scene: Scene) -> None:
    envelope, content = scene.frame("bob")
    scene.refuses((envelope, replace(content, room_head=Head(99, bytes(32)))), LogRolledBack, "does not show")
    scene.accept((envelope, content))


@pytest.mark.parametrize("ahead", [1, 1000, 2**31])
def test_who_names_records_that_are_not_shown_here(scene: Scene, ahead: int) -> None:
    envelope, content = scene.frame("bob")
    room = replace(content, room_head=Head(content.room_head.sequence + ahead, bytes(32)))
    directory = replace(content, directory_head=Head(content.directory_head.sequence + ahead, bytes(32)))
    scene.refuses((envelope, room), LogRolledBack, "bob names records")
    scene.refuses((envelope, directory), LogRolledBack, "bob names records")


@pytest.mark.parametrize("sequence", [0, 1, 3])
def test_who_was_shown_another_log(scene: Scene, sequence: int) -> None:
    envelope, content = scene.frame("bob")
    other = Head(sequence, bytes(32))
    scene.refuses((envelope, replace(content, room_head=other)), LogForked, "another log of this room")
    scene.refuses((envelope, replace(content, directory_head=other)), LogForked, "another directory")


@pytest.mark.parametrize("who", ["rae", "dan", "stranger"])
def test_who_may_not_write(scene: Scene, who: str) -> None:
    scene.refuses(scene.frame(who), FrameInvalid, "could not write in this room")


def test_who_names_a_head_from_before_they_joined(scene: Scene) -> None:
    scene.world.add(scene.room, "dan")
    envelope, content = scene.frame("dan")
    early = scene.world.rooms[scene.room].head_at(1)
    assert early is not None
    scene.refuses((envelope, replace(content, room_head=early)), FrameInvalid, "could not write")


def test_a_removed_member_is_heard_until_their_removal_is_known_and_not_again(scene: Scene) -> None:
    before, later, much_later = (scene.frame("bob") for _ in range(3))
    scene.world.remove(scene.room, "bob")
    scene.accept(before)  # sent before, or as if: nobody has said yet that they knew of the removal
    scene.accept(scene.frame("ada"))
    scene.refuses(later, FrameInvalid, "bob could not write")
    scene.world.add(scene.room, "bob")
    scene.refuses(much_later, FrameInvalid, "bob could not write")
    scene.accept(scene.frame("bob"))
    scene.accept(scene.frame("ada"))


def test_a_removed_member_under_the_new_head_is_refused(scene: Scene) -> None:
    scene.world.remove(scene.room, "bob")
    scene.refuses(scene.frame("bob"), FrameInvalid, "bob could not write")


def test_a_refused_frame_makes_nothing_known(scene: Scene) -> None:
    before = scene.frame("bob")
    scene.world.remove(scene.room, "bob")
    scene.refuses(scene.frame("rae"), FrameInvalid, "rae could not write")
    scene.accept(before)


def test_a_revoked_user_is_not_heard_once_the_revocation_is_known(scene: Scene) -> None:
    before, later = scene.frame("bob"), scene.frame("bob")
    scene.world.revoke("bob")
    scene.accept(before)
    scene.world.rotate(scene.room)
    scene.accept(scene.frame("ada"))
    scene.refuses(later, FrameInvalid, "bob was not on the bus")


def test_a_revoked_user_who_names_their_own_revocation(scene: Scene) -> None:
    scene.world.revoke("bob")
    scene.refuses(scene.frame("bob"), FrameInvalid, "bob was not on the bus")


def test_who_knows_of_a_removal_and_goes_on_under_the_old_key(scene: Scene) -> None:
    scene.world.remove(scene.room, "rae")
    envelope, content = scene.frame("bob")
    scene.refuses((replace(envelope, epoch=1), content), OldEpoch, "epoch 1, which was not the room's")


def test_who_uses_an_epoch_before_it_began(scene: Scene) -> None:
    envelope, content = scene.frame("bob")
    scene.world.rotate(scene.room)
    scene.refuses((replace(envelope, epoch=2), content), OldEpoch, "epoch 2")


def test_who_knows_of_a_revocation_and_uses_a_key_that_the_revoked_user_holds(scene: Scene) -> None:
    unknowing = scene.frame("ada")
    scene.world.revoke("bob")
    scene.accept(unknowing)
    scene.refuses(scene.frame("ada"), OldEpoch, "knew")
    scene.world.rotate(scene.room)
    scene.accept(scene.frame("ada"))


def test_who_came_back_later_does_not_spoil_what_was_said_without_them(scene: Scene) -> None:
    scene.world.remove(scene.room, "bob")
    meanwhile = scene.frame("ada")
    scene.world.add(scene.room, "bob")
    scene.accept(meanwhile)


@pytest.mark.parametrize("came_back", [False, True])
def test_who_knows_that_somebody_left_and_uses_a_key_that_they_hold(scene: Scene, *, came_back: bool) -> None:
    if came_back:
        scene.world.remove(scene.room, "bob")
        scene.world.add(scene.room, "bob")
    unknowing = scene.frame("ada")
    scene.world.leave(scene.room, "bob")
    scene.accept(unknowing)
    scene.refuses(scene.frame("ada"), OldEpoch, "knew that somebody had gone")
    scene.world.rotate(scene.room)
    scene.accept(scene.frame("ada"))


def test_what_one_run_knew_of_a_removal_the_next_one_knows(scene: Scene) -> None:
    seen = Seen()
    scene.judge = Judge(seen)
    kept_back, earlier = scene.frame("bob"), scene.frame("bob")
    scene.accept(earlier, at=1)
    scene.world.remove(scene.room, "bob")
    scene.accept(scene.frame("ada"), at=2)
    scene.judge = Judge(load_seen(json.loads(json.dumps(seen.dump()))))
    scene.refuses(kept_back, FrameInvalid, "bob could not write", at=3)
    scene.accept(earlier, at=1)  # history is what it was
    scene.accept(scene.frame("ada"), at=3)


def test_what_is_new_cannot_be_given_a_number_from_before_a_removal_became_known(scene: Scene) -> None:
    """The frame that told of it was shown under a number that no stream ever comes to."""
    seen = Seen()
    scene.judge = Judge(seen)
    kept_back = scene.frame("bob")
    scene.world.remove(scene.room, "bob")
    scene.accept(scene.frame("ada"), at=2**63)
    scene.judge = Judge(seen, begun=seen.last)
    scene.refuses(kept_back, FrameInvalid, "bob could not write", at=7)
    scene.accept(scene.frame("ada"), at=8)


def test_what_one_run_was_shown_is_not_shown_to_the_next_elsewhere(scene: Scene) -> None:
    seen = Seen()
    scene.judge = Judge(seen)
    frame = scene.frame("bob")
    scene.accept(frame, at=1)
    scene.judge = Judge(seen)
    scene.refuses(frame, FrameReplayed, "shown before, elsewhere", at=2)
    scene.judge = Judge(seen, begun=1)
    scene.refuses(frame, FrameReplayed, "shown before, elsewhere", at=1)


def test_a_refused_frame_is_not_remembered(scene: Scene) -> None:
    seen = Seen()
    scene.judge = Judge(seen)
    envelope, content = scene.frame("bob")
    scene.refuses((envelope, replace(content, room_head=Head(99, bytes(32)))), LogRolledBack, "does not show", at=5)
    assert seen.dump() == Seen().dump()


def envelope(counter: int, session: bytes = SESSION) -> Envelope:
    return Envelope(1, user("bob"), session, counter)


def test_frames_may_overtake_each_other_within_the_window() -> None:
    replays = Replays()
    replays.admit(envelope(REORDER))
    for counter in range(1, REORDER):
        replays.admit(envelope(counter))
    with pytest.raises(FrameReplayed):
        replays.admit(envelope(0))
    for counter in range(1, REORDER + 1):
        with pytest.raises(FrameReplayed):
            replays.admit(envelope(counter))


def test_no_number_comes_back_however_far_the_session_went() -> None:
    replays = Replays()
    for counter in range(4 * REORDER):
        replays.admit(envelope(counter))
    for counter in range(4 * REORDER):
        with pytest.raises(FrameReplayed):
            replays.admit(envelope(counter))


def test_sessions_and_senders_count_for_themselves() -> None:
    replays = Replays()
    replays.admit(envelope(0))
    replays.admit(envelope(0, bytes([1]) * 16))
    replays.admit(replace(envelope(0), sender=user("ada")))
    with pytest.raises(FrameReplayed):
        replays.admit(envelope(0))


def test_nobody_has_anothers_session_forgotten() -> None:
    replays, order = Replays(), Order()
    bobs = envelope(0)
    replays.admit(bobs)
    order.meet(bobs, 0, NOT_BEGUN)
    for number in range(SESSIONS_KEPT + 50):
        flood = Envelope(1, user("mallory"), number.to_bytes(16, "big"), 0)
        replays.admit(flood)
        order.meet(flood, 0, NOT_BEGUN)
    with pytest.raises(FrameReplayed):
        replays.admit(bobs)
    assert gap(envelope(2), order.track(envelope(2))) == Gap(1, 0)
    assert order.forgot == {user("mallory")}


def test_memory_is_bounded_in_sessions_and_in_frames() -> None:
    replays = Replays()
    for number in range(SESSIONS_KEPT + 50):
        replays.admit(envelope(0, number.to_bytes(16, "big")))
    for counter in range(1, 10 * REORDER):
        replays.admit(envelope(counter, (SESSIONS_KEPT + 49).to_bytes(16, "big")))
    sessions = replays._sessions  # noqa: SLF001 - what this bounds is not to be seen from outside
    assert len(sessions) == SESSIONS_KEPT
    kept = [sessions.get((user("bob"), number.to_bytes(16, "big"))) for number in range(SESSIONS_KEPT + 50)]
    assert max(len(recent) for _, recent in filter(None, kept)) <= 2 * REORDER + 1
