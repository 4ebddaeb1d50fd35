"""What was shown of a room in earlier runs: nothing honest is ever refused for it, and nothing old passes for new."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import user
from unibus.client.seen import SESSIONS_KEPT, WINDOW, Seen, load_seen
from unibus.crypto.frames import Content, Envelope
from unibus.crypto.heads import EMPTY
from unibus.errors import FrameReplayed, InvalidInput

IN_FLIGHT = 16  # frames that a sender has on their way at once, and may thus change places


@dataclass(frozen=True)
class Shown:
    """One frame in the stream."""

    sender: str
    session: int
    counter: int
    at: int

    @property
    def envelope(self) -> Envelope:
        return Envelope(1, user(self.sender), self.session.to_bytes(16, "big"), self.counter)

    @property
    def content(self) -> Content:
        return Content(1_000 * self.at, EMPTY, EMPTY, (b"hello",))


def read(seen: Seen, frames: list[Shown], begun: int | None = None) -> None:
    """Show `frames` to one reader."""
    for frame in frames:
        seen.check(frame.envelope, frame.content.sent_at, frame.at, begun)
        seen.note(frame.envelope, frame.content, frame.at)


def again(seen: Seen) -> Seen:
    """What the next run remembers."""
    return load_seen(json.loads(json.dumps(seen.dump())))


def talk(count: int, sessions: int = 1, sender: str = "bob") -> list[Shown]:
    """`count` frames, of sessions that take turns."""
    return [Shown(sender, number % sessions, number // sessions, number + 1) for number in range(count)]


@st.composite
def honest(draw: st.DrawFn) -> list[Shown]:
    """A stream as honest senders and an honest bus make it: each sender's frames nearly in order, mixed at random."""
    stream: list[tuple[str, int, int]] = []
    for session in range(draw(st.integers(1, 6))):
        mine = list(range(draw(st.integers(1, 3 * WINDOW))))
        for start in range(0, len(mine), IN_FLIGHT):
            mine[start : start + IN_FLIGHT] = draw(st.permutations(mine[start : start + IN_FLIGHT]))
        sender = draw(st.sampled_from(["ada", "bob"]))
        places = sorted(draw(st.lists(st.integers(0, len(stream)), min_size=len(mine), max_size=len(mine))))
        for shift, (place, counter) in enumerate(zip(places, mine, strict=True)):
            stream.insert(place + shift, (sender, session, counter))
    return [Shown(*frame, at) for at, frame in enumerate(stream, 1)]


@settings(max_examples=60, deadline=None)
@given(stream=honest(), data=st.data())
def test_nothing_honest_is_refused_however_often_and_from_wherever_it_is_read(
    stream: list[Shown], data: st.DataObject
) -> None:
    seen = Seen()
    for _ in range(data.draw(st.integers(1, 4), "runs")):
        seen = again(seen)
        start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(stream))] * 2), "from and to"))
        news = data.draw(st.booleans(), "news only") and start >= seen.last
        read(seen, stream[start:end], seen.last if news else None)


@settings(max_examples=60, deadline=None)
@given(stream=honest(), data=st.data())
def test_nothing_that_was_shown_passes_for_new_in_any_later_run(stream: list[Shown], data: st.DataObject) -> None:
    seen = Seen()
    read(seen, stream)
    old = data.draw(st.sampled_from(stream))
    at = data.draw(st.integers(len(stream) + 1, 2**53))
    for run in (seen, again(seen), again(again(seen))):
        with pytest.raises(FrameReplayed):
            read(run, [Shown(old.sender, old.session, old.counter, at)])
        with pytest.raises(FrameReplayed):  # not even under a number that was read before, to who asks for what is new
            read(run, [Shown(old.sender, old.session, old.counter, data.draw(st.integers(1, len(stream))))], run.last)


def test_two_readers_of_one_run_get_the_same() -> None:
    seen, stream = Seen(), talk(500, 3)
    begun = seen.last
    for frame in stream:
        read(seen, [frame], begun)
    for frame in stream:
        read(seen, [frame], begun)


def many() -> Iterator[Shown]:
    """More sessions of one frame than are remembered: a sender who is started for each."""
    for number in range(2 * SESSIONS_KEPT):
        yield Shown("bob", number, 0, number + 1)


def test_a_frame_of_a_session_that_was_forgotten_is_known_by_its_age() -> None:
    seen = Seen()
    read(seen, list(many()))
    seen = again(seen)
    last = seen.last
    for old in many():
        envelope, sent_at = old.envelope, old.content.sent_at
        with pytest.raises(FrameReplayed):
            seen.check(envelope, sent_at, last + 1, None)
    read(seen, [Shown("bob", 10_000, 0, last + 1), Shown("ada", 10_001, 0, last + 2)])


def test_who_begins_many_sessions_makes_nobody_elses_new_frames_old() -> None:
    seen = Seen()
    read(seen, [Shown("ada", 99_999, 0, 1), *(Shown(each.sender, each.session, 0, each.at + 1) for each in many())])
    far = Envelope(1, user("mallory"), bytes(16), 0)
    for number in range(2 * SESSIONS_KEPT):
        envelope = Envelope(1, user("mallory"), (2**64 + number).to_bytes(16, "big"), 0)
        seen.note(envelope, Content(2**60, EMPTY, EMPTY, (b"",)), 10_000 + number)
    ada = Shown("ada", 77, 0, 20_000)
    seen.check(ada.envelope, 2_000, ada.at, None)
    with pytest.raises(FrameReplayed):
        seen.check(far, 2**59, 20_001, None)


def test_what_is_remembered_is_bounded() -> None:
    seen = Seen()
    read(seen, list(many()))
    read(seen, [Shown("bob", 0, counter, 10_000 + counter) for counter in range(1, 10 * WINDOW)])
    assert len(json.dumps(seen.dump())) < 100 * SESSIONS_KEPT


def test_what_two_processes_were_shown_is_known_to_both() -> None:
    one, two, stream = Seen(), Seen(), talk(200, 2)
    read(one, stream[:120])
    read(two, stream[80:])
    one.merge(again(two))
    assert one.last == 200
    for old in stream:
        with pytest.raises(FrameReplayed):
            read(one, [Shown(old.sender, old.session, old.counter, 201)])
    read(again(one), stream)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        {},
        {"last": [1, 2], "floors": {}, "sessions": {}},
        {"last": [1, 2, "3"], "floors": {}, "sessions": {}},
        {"last": [1, 2, -3], "floors": {}, "sessions": {}},
        {"last": [1, 2, True], "floors": {}, "sessions": {}},
        {"last": [1, 2, 3], "floors": {"U": None}, "sessions": {}},
        {"last": [1, 2, 3], "floors": {}, "sessions": {"U": 1}},
        {"last": [1, 2, 3], "floors": {}, "sessions": {"U": [["A", 1, 1, 1, 1]]}},
        {"last": [1, 2, 3], "floors": {}, "sessions": {"U": [["AAAAAAAAAAAAAAAAAAAAAA", 1, 1, 1]]}},
        {"last": [1, 2, 3], "floors": {}, "sessions": {"U": [["AAAAAAAAAAAAAAAAAAAAAA", 1, 1, 1, 1.5]]}},
    ],
    ids=str,
)
def test_what_is_damaged_is_nothing_remembered(content: object) -> None:
    with pytest.raises(InvalidInput):
        load_seen(content)
