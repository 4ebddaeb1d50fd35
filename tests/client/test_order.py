"""Frames of a session that are left out or change places: what is named, and what is never named of honest ones."""

import json

import pytest

from tests.builders import user
from tests.client.test_judge import Scene
from unibus.client.judge import Judge
from unibus.client.order import CLOCKS, NOT_BEGUN, SESSIONS_KEPT, Gap, Order, Track, explained, gap
from unibus.client.seen import Seen, load_seen
from unibus.crypto.frames import Content, Envelope
from unibus.model.bodies import RoomRetention


def frame(counter: int, unsettled: int = 0, session: int = 0) -> Envelope:
    return Envelope(1, user("ada"), session.to_bytes(16, "big"), counter, unsettled)


def shown(*frames: Envelope, begun: Track | None = NOT_BEGUN) -> list[tuple[int, int, bool]]:
    """Of each frame its counter, how many are missing before it, and whether it is late; uneventful ones left out."""
    order, found = Order(), []
    for envelope in frames:
        track = order.track(envelope) or begun
        missing = gap(envelope, track)
        late = order.meet(envelope, 0, track)
        if missing or late:
            found.append((envelope.counter, missing.frames if missing else 0, late))
    return found


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ([frame(0), frame(1), frame(2)], []),
        ([frame(0), frame(2)], [(2, 1, False)]),
        ([frame(0), frame(5), frame(6)], [(5, 4, False)]),
        ([frame(1)], [(1, 1, False)]),
        ([frame(2), frame(0), frame(1)], [(2, 2, False), (0, 0, True), (1, 0, True)]),
        ([frame(0), frame(2, 1)], []),  # the one before may never have been stored …
        ([frame(0), frame(2, 1), frame(3, 1)], [(3, 1, False)]),  # … until a later one says that it was
        ([frame(0), frame(3, 1)], [(3, 1, False)]),
        ([frame(0), frame(2, 1), frame(1), frame(3)], [(1, 0, True)]),
        ([frame(0), frame(2, 1), frame(4, 3)], []),
        ([frame(0), frame(2, 1), frame(4, 3), frame(5)], [(5, 2, False)]),
        ([frame(255, 255)], []),
        ([frame(0, session=1), frame(0, session=2), frame(1, session=1), frame(1, session=2)], []),
        ([frame(2**32 - 1)], [(2**32 - 1, 2**32 - 1, False)]),
    ],
)
def test_what_a_reader_from_the_start_finds(frames: list[Envelope], found: list[tuple[int, int, bool]]) -> None:
    assert shown(*frames) == found


def test_who_came_later_knows_nothing_of_what_was_before() -> None:
    assert shown(frame(7), frame(8), begun=None) == []
    assert shown(frame(7), frame(9), begun=None) == [(9, 1, False)]
    assert shown(frame(7), frame(6), begun=None) == [(6, 0, True)]


def test_a_gap_is_told_once() -> None:
    assert shown(frame(0), frame(2), frame(3), frame(4)) == [(2, 1, False)]


def test_sessions_are_forgotten_and_that_is_known() -> None:
    order = Order()
    for session in range(SESSIONS_KEPT):
        order.meet(frame(0, session=session), 0, NOT_BEGUN)
    before = order.forgot.copy()
    order.meet(frame(0, session=SESSIONS_KEPT), 0, NOT_BEGUN)
    assert (before, order.forgot) == (set(), {user("ada")})
    assert order.track(frame(1)) is None


NOW = 1_000_000.0


@pytest.mark.parametrize(
    ("retentions", "age", "dropped"),
    [
        ([], None, False),
        ([RoomRetention(seconds=None, bytes=None)], 10_000, False),
        ([RoomRetention(seconds=3600)], 3600 - CLOCKS - 10, False),
        ([RoomRetention(seconds=3600)], 3600, True),
        ([RoomRetention(seconds=3600), RoomRetention()], 3600, True),  # it was so once
        ([RoomRetention(seconds=3600)], None, True),
        ([RoomRetention(bytes=2**16)], 1, True),
    ],
)
def test_what_the_room_asked_to_be_dropped_is_not_missing(
    retentions: list[RoomRetention], age: int | None, dropped: bool
) -> None:
    found = Gap(1, None if age is None else int((NOW - age) * 1000))
    assert explained(found, retentions, NOW) is dropped


def again(seen: Seen) -> Seen:
    return load_seen(json.loads(json.dumps(seen.dump())))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def run(scene: Scene, seen: Seen, after: int, *frames: tuple[int, Envelope]) -> list[tuple[int, int]]:
    """One run that reads on after a number: where how many are missing."""
    judge, found = Judge(seen), []
    judge.begin(after)
    room, directory = scene.world.rooms[scene.room], scene.world.directory
    content = Content(0, room.head, directory.head, (b"",))
    for at, envelope in frames:
        missing = judge.gap(envelope, at)
        if missing is not None:
            found.append((at, missing.frames))
        judge.accept(envelope, content, room, directory, at)
        judge.passed(at, refused=False)
    return found


def test_what_is_missing_between_two_runs_is_named(scene: Scene) -> None:
    seen = Seen()
    assert run(scene, seen, 0, (1, frame(0)), (2, frame(1))) == []
    for after in (1, 2):
        assert run(scene, again(seen), after, (9, frame(2))) == []
        assert run(scene, again(seen), after, (9, frame(4))) == [(9, 2)]
        assert run(scene, again(seen), after, (9, frame(1, session=5))) == [(9, 1)], "another session begins with 0"


def test_a_run_that_left_some_out_calls_nothing_missing(scene: Scene) -> None:
    seen = Seen()
    run(scene, seen, 0, (1, frame(0)), (2, frame(1)))
    assert run(scene, again(seen), 5, (9, frame(4)), (10, frame(3, session=5))) == []
    assert run(scene, again(seen), 5, (9, frame(4)), (10, frame(6))) == [(10, 1)]
    run(scene, seen, 5, (9, frame(4)))
    assert run(scene, again(seen), 9, (10, frame(5)), (11, frame(7))) == [(11, 1)]


def test_history_is_read_again_from_anywhere(scene: Scene) -> None:
    seen = Seen()
    stream = [(at, frame(at - 1)) for at in range(1, 20)]
    run(scene, seen, 0, *stream)
    for after in range(19):
        assert run(scene, again(seen), after, *stream[after:]) == []


def test_two_runs_at_once_know_what_both_were_shown(scene: Scene) -> None:
    one, two = Seen(), Seen()
    stream = [(at, frame(at - 1)) for at in range(1, 20)]
    run(scene, one, 0, *stream[:10])
    run(scene, two, 5, *stream[5:15])
    one.merge(again(two))
    assert run(scene, again(one), 15, *stream[15:]) == []
    assert run(scene, again(one), 15, *stream[16:]) == [(17, 1)]


def test_what_was_refused_in_one_run_is_not_missing_in_the_next(scene: Scene) -> None:
    seen = Seen()
    run(scene, seen, 0, (1, frame(0)))
    judge = Judge(seen)
    judge.begin(1)
    judge.passed(2, refused=True)
    assert run(scene, again(seen), 2, (3, frame(2)), (4, frame(4))) == [(4, 1)]
