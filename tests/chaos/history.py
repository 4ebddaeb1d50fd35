"""What happened to a bus while it was broken, as those saw it who used it; and what must never be in such a history.

Pure: `faults` reads what was recorded and what every node shows in the end. Must never excuse what it cannot place:
an event that fits nothing is a fault.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that was acknowledged to its sender. `begun` and `done` are in seconds of one clock."""

    text: str
    begun: float
    done: float


@dataclass(frozen=True, slots=True)
class Appended:
    """A record that was acknowledged: its place in its log and its hash."""

    log: str
    sequence: int
    digest: str
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

    sent: list[Sent] = field(default_factory=list)
    appended: list[Appended] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    accepted: list[Accepted] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    got: dict[str, list[str]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    removed: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shown:
    """What one node shows in the end: all texts of the room, in order, and the hashes of each log's records."""

    texts: Sequence[str]
    logs: Mapping[str, Sequence[str]]


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


def longest_pause(done: Sequence[float], since: float, until: float) -> float:
    """The longest time in seconds without a success between two moments. `done` is when each success came, sorted."""
    inside = [moment for moment in done if since < moment < until]
    edges = [since, *inside, until]
    return max(later - earlier for earlier, later in zip(edges, edges[1:], strict=False))


def _failures(history: History) -> Iterator[str]:
    yield from (f"{failed.what} failed at {failed.at:.2f}: {failed.error}" for failed in history.failed)
    yield from (f"a message was not believed: {refusal}" for refusal in history.refused)


def _lost(history: History, node: str, found: Shown) -> Iterator[str]:
    counted = Counter(found.texts)
    yield from (f"{node} shows message {text} {times} times" for text, times in counted.items() if times > 1)
    yield from (f"{node} lacks acknowledged message {sent.text}" for sent in history.sent if sent.text not in counted)
    place = {text: number for number, text in enumerate(found.texts)}
    for sender in {_sender(sent.text) for sent in history.sent}:
        order = [place[sent.text] for sent in history.sent if _sender(sent.text) == sender and sent.text in place]
        if order != sorted(order):
            yield f"{node} shows the messages of {sender} in another order than they were acknowledged in"
    for record in history.appended:
        digests = found.logs.get(record.log, ())
        if len(digests) < record.sequence:
            yield f"{node} lacks acknowledged record {record.sequence} of {record.log}"
        elif digests[record.sequence - 1] != record.digest:
            yield f"{node} has another record {record.sequence} of {record.log} than was acknowledged"


def _differences(shown: Mapping[str, Shown]) -> Iterator[str]:
    (first, one), *others = shown.items()
    for name, other in others:
        if list(one.texts) != list(other.texts):
            yield f"{first} and {name} show different messages"
        if {log: list(found) for log, found in one.logs.items()} != {log: list(x) for log, x in other.logs.items()}:
            yield f"{first} and {name} show different records"


def _readers(history: History, found: Shown) -> Iterator[str]:
    begun = {sent.text: sent.begun for sent in history.sent}
    for reader, got in history.got.items():
        if list(found.texts[: len(got)]) != got:
            wrong = next((n for n, (a, b) in enumerate(zip(found.texts, got, strict=False)) if a != b), len(got))
            yield f"{reader} was given other messages than were kept, from number {wrong} of {len(got)} on"
        end = history.removed.get(reader)
        if end is None:
            if len(got) < len(found.texts):
                yield f"{reader} was given {len(got)} of {len(found.texts)} messages"
            continue
        for text in got:
            if text not in begun or begun[text] > end:
                yield f"{reader} was given {text}, which was sent after the removal"


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


def _sender(text: str) -> str:
    return text.partition(" ")[0]
