"""What one commit of the SQLite engine writes, decided from the writes that wait and the logs' lengths. Pure.

Every write of a batch gets its own answer: one that comes too late leaves no trace and spoils nothing for others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from unibus.store.port import PositionTaken


@dataclass(frozen=True, slots=True)
class Add:
    """An entry to add, its names encoded. `label` is the log's name as it was given; position None is the next."""

    label: str
    log: bytes
    position: int | None
    value: bytes
    attachments: Mapping[bytes, bytes]
    marks: Mapping[bytes, bytes | None]

    @property
    def size(self) -> int:
        """About how many bytes this writes."""
        return len(self.value) + sum(map(len, self.attachments.values()))


@dataclass(frozen=True, slots=True)
class Adds:
    """Entries that are added all or none."""

    adds: tuple[Add, ...]

    @property
    def size(self) -> int:
        """About how many bytes this writes."""
        return sum(add.size for add in self.adds)


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


Write = Adds | Claim | Forget | Follow | Probe
# How many things were written, or why none was.
Answer = int | PositionTaken


@dataclass(slots=True)
class Rows:
    """The rows that a batch of appends adds, each ready to be bound, and the answer to each append in order.

    Rows of entries and attachments begin with the log's name; `logs` are the names of those that are new.

    `marks` maps to what each name holds after the whole batch; None says that it is gone.
    """

    answers: list[Answer] = field(default_factory=list)
    logs: list[tuple[bytes]] = field(default_factory=list)
    entries: list[tuple[bytes, int, bytes]] = field(default_factory=list)
    attachments: list[tuple[bytes, bytes, int, bytes]] = field(default_factory=list)
    marks: dict[bytes, bytes | None] = field(default_factory=dict)


def plan(groups: Iterable[Sequence[Add]], lengths: Mapping[bytes, int]) -> Rows:
    """Decide the groups in their order; `lengths` says how long each log is that is not empty."""
    rows = Rows()
    reached = dict(lengths)
    for adds in groups:
        placed = place_all(adds, reached)
        if isinstance(placed, PositionTaken):
            rows.answers.append(placed)
            continue
        rows.answers.append(len(placed))
        for add, position in zip(adds, placed, strict=True):
            _put(rows, add, position)
    return rows


def place_all(adds: Sequence[Add], lengths: dict[bytes, int]) -> tuple[int, ...] | PositionTaken:
    """The positions of entries that are added all or none; `lengths` is brought up to date if they are."""
    reached: dict[bytes, int] = {}
    positions = []
    for add in adds:
        following = reached.get(add.log, lengths.get(add.log, 0)) + 1
        if add.position not in (None, following):
            return PositionTaken(add.label, lengths.get(add.log, 0))
        reached[add.log] = following
        positions.append(following)
    lengths.update(reached)
    return tuple(positions)


def _put(rows: Rows, add: Add, position: int) -> None:
    if position == 1:
        rows.logs.append((add.log,))
    rows.entries.append((add.log, position, add.value))
    rows.attachments += [(add.log, name, position, value) for name, value in add.attachments.items()]
    rows.marks |= add.marks


def share_out(claims: Sequence[Claim], inserted: Iterable[bytes]) -> list[Answer]:
    """The answer to each claim: of those for one name that was `inserted`, the first one has it."""
    left = set(inserted)
    answers: list[Answer] = []
    for claim in claims:
        answers.append(int(claim.name in left))
        left.discard(claim.name)
    return answers
