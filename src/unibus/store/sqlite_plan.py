"""What one commit of the SQLite engine writes, decided from the writes that wait and the logs' lengths. Pure.

Every write of a batch gets its own answer: one that comes too late leaves no trace and spoils nothing for others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from unibus.store.port import PositionTaken


@dataclass(frozen=True, slots=True)
class Add:
    """An append, its names encoded. `label` is the log's name as it was given."""

    label: str
    log: bytes
    position: int
    value: bytes
    attachments: Mapping[bytes, bytes]
    marks: Mapping[bytes, bytes | None]

    @property
    def size(self) -> int:
        """About how many bytes this writes."""
        return len(self.value) + sum(map(len, self.attachments.values()))


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of `name` until `expires_at`, in Unix seconds."""

    name: bytes
    expires_at: int
    size = 0


@dataclass(frozen=True, slots=True)
class Forget:
    """The claims that expired before `now`, in Unix seconds, are to go."""

    now: int
    size = 0


class Place(NamedTuple):
    """How far a replica has followed: which stream, and the sequence and the digest of the last entry taken from it."""

    stream: str
    sequence: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Follow:
    """Entries of a stream that a replica takes over, all of them or none, and the place that it is at then."""

    adds: tuple[Add, ...]
    place: Place

    @property
    def size(self) -> int:
        """About how many bytes this writes."""
        return sum(add.size for add in self.adds)


@dataclass(frozen=True, slots=True)
class Probe:
    """A write that means nothing, to see whether the disk takes one."""

    size = 0


Write = Add | Claim | Forget | Follow | Probe
# How many things were written, or why none was.
Answer = int | PositionTaken


@dataclass(slots=True)
class Rows:
    """The rows that a batch of appends adds, each ready to be bound, and the answer to each append in order.

    `marks` maps to what each name holds after the whole batch; None says that it is gone.
    """

    answers: list[Answer] = field(default_factory=list)
    logs: list[tuple[bytes]] = field(default_factory=list)
    entries: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    attachments: list[tuple[bytes, bytes, int, bytes]] = field(default_factory=list)
    marks: dict[bytes, bytes | None] = field(default_factory=dict)


def plan(adds: Iterable[Add], lengths: Mapping[bytes, int]) -> Rows:
    """Decide the appends in their order; `lengths` says how long each log is that is not empty."""
    rows = Rows()
    reached = dict(lengths)
    for add in adds:
        length = reached.get(add.log, 0)
        if add.position != length + 1:
            rows.answers.append(PositionTaken(add.label, length))
            continue
        reached[add.log] = add.position
        if length == 0:
            rows.logs.append((add.log,))
        rows.entries.append((add.log, add.position, add.value))
        rows.attachments += [(add.log, name, add.position, value) for name, value in add.attachments.items()]
        rows.marks |= add.marks
        rows.answers.append(1)
    return rows


def share_out(claims: Sequence[Claim], inserted: Iterable[bytes]) -> list[Answer]:
    """The answer to each claim: of those for one name that was `inserted`, the first one has it."""
    left = set(inserted)
    answers: list[Answer] = []
    for claim in claims:
        answers.append(int(claim.name in left))
        left.discard(claim.name)
    return answers
