"""The records of a bus out of a verified copy of its store into another store, and both compared to the byte.

The directory comes last. What is there already is skipped, so that a copy that was broken off goes on. Must never take
a record for copied because it was sent: what counts is what the store gives back.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import zip_longest

from unibus.errors import StorageUnavailable
from unibus.model.records import DIRECTORY, room_log
from unibus.services.moves import LOG as MOVES
from unibus.services.verifying import AUDIT_PREFIX
from unibus.store.port import Append, PositionTaken, Store
from unibus.store.snapshot import Snapshot
from unibus.tasks import end_tasks

AT_ONCE = 32
"""Logs that are copied at the same time: each write waits for a majority's disks."""


def moved_name(log: str, bus: str) -> str | None:
    """What a log of the moved `bus` is called where it comes to; None for one that tells only of where it was.

    A node writes its own audit trail from its start on, so one that is brought along bears the bus in its name.
    """
    if log == MOVES:
        return None
    return f"{log}@{bus[:8]}" if log.startswith(AUDIT_PREFIX) else log


async def copy_records(source: Snapshot, store: Store, bus: str, progress: Callable[[], object]) -> None:
    """Append all that `store` lacks of `source`. `progress` is called for each entry. Raises StorageUnavailable."""
    lengths = {log: length for log, length, _ in source.heads()}
    marks: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, value in source.marks():
        marks[room_log(name.rpartition("/")[2])][name] = value
    waiting = iter([log for log in lengths if log != DIRECTORY])

    async def copy(logs: Iterator[str]) -> None:
        for log in logs:
            if (name := moved_name(log, bus)) is not None:
                await _copy_log(source, store, (log, name), lengths[log], marks.get(log, {}), progress)

    workers = [asyncio.create_task(copy(waiting), name="move of records") for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        await end_tasks(*workers)
    await copy(iter([DIRECTORY]))


async def _copy_log(
    source: Snapshot,
    store: Store,
    names: tuple[str, str],
    length: int,
    marks: dict[str, bytes],
    progress: Callable[[], object],
) -> None:
    log, name = names
    last = await store.last(name)
    there = last.position if last is not None else 0
    for position, value, attached in source.entries(log):
        if position > there:
            # What the whole log gives comes with its last entry: nobody reads marks before the move is through.
            change = Append(name, position, value, attached, marks if position == length else {})
            with contextlib.suppress(PositionTaken):  # the same move, sent twice; `compare` tells whether it is
                await store.append(change)
        progress()


def compare(source: Snapshot, copy: Snapshot, bus: str) -> None:
    """Return if `copy` has all of `source`, byte for byte. Raises StorageUnavailable, naming what differs."""
    for log, _, _ in source.heads():
        if (name := moved_name(log, bus)) is None:
            continue
        if any(ours != theirs for ours, theirs in zip_longest(source.entries(log), copy.entries(name))):
            raise StorageUnavailable(
                f"the log {log!r} is not here as it was sent: start the cluster anew, and move again"
            )
    if dict(source.marks()) != dict(copy.marks()):
        raise StorageUnavailable("who is in which room is not here as it was sent: start the cluster anew")
