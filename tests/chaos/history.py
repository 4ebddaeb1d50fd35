"""What happened to a bus while it was broken, as those saw it who used it; and what must never be in such a history.

Pure: `faults` reads what was recorded and what every node shows in the end. Must never excuse what it cannot place:
an event that fits nothing is a fault.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

MESSAGES = "messages"


@dataclass(frozen=True, slots=True)
class Written:
    """What was acknowledged to its writer: a message, or a record of the log `where`.

    `what` begins with the writer's name and is unique; `begun` and `done` are in seconds of one clock.
    """

    where: str
    what: str
    begun: float
    done: float


@dataclass(frozen=True, slots=True)
class Seen:
    """How many records of a log a client was shown, in the order in which it asked."""

    client: str
    log: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A node took a signed request for a new one."""

    nonce: str
    node: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An operation of the client library that did not do what it was asked for."""

    what: str
    error: str
    at: float


@dataclass(slots=True)
class History:
    """All that was recorded. `got` are the texts that each reader was given, in order; `removed` tells when the removal
    of a reader was acknowledged."""

    written: list[Written] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    got: dict[str, list[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    removed: dict[str, float] = field(default_factory=dict)


Shown = Mapping[str, Sequence[str]]
"""What one node shows in the end: everything that was written, in order, by where it was."""


def faults(history: History, shown: Mapping[str, Shown]) -> list[str]:
    """Everything that must not be, a line each. `shown` is by the node's name, and all nodes have to be in it."""
    return [
        *_failures(history),
        *(fault for node, found in shown.items() for fault in _lost(history, node, found)),
        *_differences(shown),
        *_readers(history, next(iter(shown.values()))),
        *_replays(history),
        *_backwards(history),
    ]


def longest_wait(history: History, where: str, since: float, until: float) -> float:
    """The longest time in seconds that any one writer went without a success between two moments."""
    waits = [0.0]
    for writer in {_writer(written.what) for written in history.written if written.where == where}:
        mine = (one.done for one in history.written if one.where == where and _writer(one.what) == writer)
        edges = [since, *sorted(done for done in mine if since < done < until), until]
        waits += [later - earlier for earlier, later in pairwise(edges)]
    return max(waits)


def _failures(history: History) -> Iterator[str]:
    yield from (f"{failed.what} failed at {failed.at:.2f}: {failed.error}" for failed in history.failed)
    yield from (f"a message was not believed: {refusal}" for refusal in history.refused)


def _lost(history: History, node: str, shown: Shown) -> Iterator[str]:
    for where in sorted({written.where for written in history.written}):
        acknowledged = [written.what for written in history.written if written.where == where]
        found = shown.get(where, ())
        counted = Counter(found)
        yield from (f"{node} shows {what} {times} times in {where}" for what, times in counted.items() if times > 1)
        yield from (
            f"{node} lacks what was acknowledged in {where}: {what}" for what in acknowledged if not counted[what]
        )
        place = {what: number for number, what in enumerate(found)}
        for writer in sorted({_writer(what) for what in acknowledged}):
            order = [place[what] for what in acknowledged if _writer(what) == writer and what in place]
            if order != sorted(order):
                yield f"{node} shows what {writer} wrote in {where} in another order than it was acknowledged in"


def _differences(shown: Mapping[str, Shown]) -> Iterator[str]:
    (first, one), *others = shown.items()
    for name, other in others:
        for where in sorted(one.keys() | other.keys()):
            if list(one.get(where, ())) != list(other.get(where, ())):
                yield f"{first} and {name} show different things in {where}"


def _readers(history: History, shown: Shown) -> Iterator[str]:
    kept = shown[MESSAGES]
    begun = {written.what: written.begun for written in history.written if written.where == MESSAGES}
    for reader, got in history.got.items():
        if list(kept[: len(got)]) != got:
            wrong = next((n for n, (a, b) in enumerate(zip(kept, got, strict=False)) if a != b), len(kept))
            yield f"{reader} was given other messages than were kept, from number {wrong} of {len(got)} on"
        end = history.removed.get(reader)
        if end is None and len(got) < len(kept):
            yield f"{reader} was given {len(got)} of {len(kept)} messages"
        late = [what for what in got if end is not None and begun.get(what, 0.0) > end]
        yield from (f"{reader} was given what was sent after the removal: {what}" for what in late)


def _replays(history: History) -> Iterator[str]:
    taken = Counter(accepted.nonce for accepted in history.accepted)
    for nonce, times in taken.items():
        if times > 1:
            nodes = ", ".join(accepted.node for accepted in history.accepted if accepted.nonce == nonce)
            yield f"one signed request was taken {times} times, by {nodes}"


def _backwards(history: History) -> Iterator[str]:
    reached: dict[tuple[str, str], int] = {}
    for seen in history.seen:
        before = reached.get((seen.client, seen.log), 0)
        if seen.sequence < before:
            yield f"{seen.client} was shown {seen.log} up to {seen.sequence}, after {before}"
        reached[seen.client, seen.log] = max(before, seen.sequence)


def _writer(what: str) -> str:
    return what.partition(" ")[0]
