"""The store's port: logs of immutable entries, what hangs on them, and claims. Bytes and positions, nothing more.

A store never knows rooms, users or keys. Engines implement `Store`; `tests/store/conformance.py` is the
specification that each passes unchanged. Every write is durable when its call returns, atomic, and
applied in full or not at all, also when the caller is cancelled or the process is killed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log: `position` counts from 1 without gaps; `value` is what was appended, to the byte."""

    position: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Append:
    """One entry that an append writes, and what comes with it.

    `position` None is the next one, whichever it is then. `attachments` stay with the entry for good, by name. `marks`
    are small facts derived from entries, kept by name across all logs, so that a question such as "which rooms is she
    in" needs no scan; None removes one. They can be made again from the entries.
    """

    log: str
    position: int | None
    value: bytes
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    marks: Mapping[str, bytes | None] = field(default_factory=dict)


class Counts(NamedTuple):
    """How much a store holds."""

    logs: int
    entries: int


class PositionTaken(Exception):
    """The position is not the next one of its log. `length` is the log's length now."""

    def __init__(self, log: str, length: int) -> None:
        super().__init__(f"{log} has {length} entries")
        self.length = length


class Store(Protocol):
    """Logs, attachments, marks and claims. All methods raise StorageUnavailable when the engine cannot serve.

    A write that raises it may have been done all the same, unless it is NoQuorum.
    """

    async def append(self, *changes: Append) -> None:
        """Add entries in one atomic step, in their order.

        Raises PositionTaken if the `position` of one is not its log's length + 1, and writes nothing then. Of several
        racing appends to one position exactly one succeeds. A log comes into being with its first entry.
        """

    async def last(self, log: str) -> Entry | None:
        """The log's last entry, or None for a log that has none."""

    async def entries(self, log: str, after: int, limit: int) -> list[Entry]:
        """Up to `limit` entries with positions above `after`, in order."""

    async def logs(self, prefix: str, after: str, limit: int) -> list[str]:
        """Up to `limit` names of logs that start with `prefix` and sort after `after` (byte order), sorted."""

    async def attachments(self, log: str, name: str, after: int, limit: int) -> list[Entry]:
        """Up to `limit` attachments called `name` in the log, with positions above `after`, in order."""

    async def marks(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Up to `limit` marks whose names start with `prefix` and sort after `after` (byte order), sorted by name."""

    async def claim(self, name: str, expires_at: int) -> bool:
        """Claim `name` until the Unix time `expires_at` (seconds). True once; False for every later attempt.

        A restart does not forget. False also for a time up to which claims were forgotten: on a clock that was set
        back, what was claimed then must not be good again. After `forget_claims` has dropped an expired claim it may be
        claimed again; an engine may drop one by itself when it has been expired for some minutes.
        """

    async def forget_claims(self, now: int) -> int:
        """Drop the claims that expired before the Unix time `now`; how many were dropped."""

    async def sync(self) -> None:
        """Return when all that was acknowledged before this call, by whichever node, can be read here."""

    def current(self) -> str | None:
        """None while this store can prove that what it answers is no older than a few seconds, else why it cannot.

        While it cannot, every other method raises StorageUnavailable with that reason.
        """

    async def snapshot(self, path: Path) -> None:
        """Write all logs, attachments and marks as they are at one moment, and no claims, to the new file `path`.

        `store.snapshot` reads it, and `SqliteStore.open` takes it. Writers need not wait for this. Not synced to disk.
        """

    async def counts(self, prefix: str) -> Counts:
        """How many logs there are whose names start with `prefix`, and how many entries in all of them."""

    async def posture(self) -> Mapping[str, object]:
        """What the engine really runs with, read back from it: at least `engine` (str) and `durable` (bool)."""

    async def close(self) -> None:
        """Finish what was begun and let go of files and connections. Safe to call twice."""
