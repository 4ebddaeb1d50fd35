"""Moving a bus that stands still into a cluster, part by part, each skipped where it is there already.

The order is the node's: the manifest, the records, which it verifies before any of it counts, blobs, messages, and the
end, by which it serves. Whatever ends this in between, a repetition goes on. Must never leave two nodes that both may
serve the bus: the source is noted as moved before the first byte of it counts elsewhere.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unibus.client.move_target import MoveTarget
from unibus.errors import RateLimited, RuleBroken, UnibusError, Unreachable, Untrusted
from unibus.model.backup import StoredBlob
from unibus.model.blobs import MAX_PART
from unibus.tasks import end_tasks

AT_ONCE = 4
"""Blobs that are on their way at the same time."""
TRIES = 2
SERVED_WITHIN = 30.0
"""Seconds in which the node takes up a bus that is all there."""
_LOOK = 0.25
Progress = Callable[[str, int, int | None], object]
"""Told what is being done, how far it is, and of how much where that is known."""


class Totals(Protocol):
    """How much a bus holds."""

    @property
    def logs(self) -> int: ...
    @property
    def records(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def message_bytes(self) -> int: ...
    @property
    def blobs(self) -> int: ...
    @property
    def blob_bytes(self) -> int: ...


class Source(Protocol):
    """The bus that is moved; `unibus.daemon.moving.Source` is one."""

    @property
    def bus(self) -> str: ...
    @property
    def manifest(self) -> Path: ...
    @property
    def records(self) -> Path: ...
    @property
    def messages(self) -> Path: ...
    @property
    def digest(self) -> str: ...

    async def copy(self, progress: Progress) -> Totals:
        """Put copies aside and verify them; how much there is."""

    def blobs(self) -> Sequence[StoredBlob]:
        """All blobs."""

    def read(self, blob: StoredBlob, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """A part of a blob."""

    def note(self, to: str, *, done: bool) -> None:
        """Note where the bus goes, so that no daemon serves it here any more."""

    def forget(self) -> None:
        """Take the note away, because nothing has come of it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: `already` if the node serves this bus; else how much was, or with a dry run would be, moved."""

    already: bool
    resumed: bool = False
    totals: Totals | None = None


async def move(source: Source, target: MoveTarget, progress: Progress, *, dry_run: bool = False) -> Outcome:
    """Move `source` to `target`. With `dry_run` everything is verified and looked at, and nothing changed anywhere.

    Raises RuleBroken when there is another bus, BootstrapRefused, BackupInvalid when the source does not hold.
    """
    to = str(target.url).rstrip("/")
    served = await target.bus()
    if served == source.bus:
        if not dry_run:
            source.note(to, done=True)
        return Outcome(already=True)
    if served is not None:
        raise RuleBroken(f"{to} holds another bus, {served}: it stays as it is; move into a cluster that has none")
    view = await target.look()
    if view.stage == "begun" and view.bus != source.bus:
        raise RuleBroken(f"the bus {view.bus} is being moved to {to}: finish that first")
    totals = await source.copy(progress)
    if view.stage == "begun" and view.source != source.digest:
        raise RuleBroken(
            "this bus is not as it was when its move began: wipe the data directories of the cluster, and begin again"
        )
    if dry_run:
        return Outcome(already=False, resumed=view.stage == "begun", totals=totals)
    source.note(to, done=False)
    try:
        view = await target.send("manifest", source.manifest, lambda _: None)
        await _send(target, "records", source.records, progress)
    except UnibusError:
        await _forget_if_nothing_came(source, target)
        raise
    await _send_blobs(source, target, progress)
    if not view.messages:
        await _send(target, "messages", source.messages, progress)
    await _with_progress(target, target.finish(), progress)
    await _until_served(source, target)
    source.note(to, done=True)
    return Outcome(already=False, resumed=view.stage == "begun", totals=totals)


async def _forget_if_nothing_came(source: Source, target: MoveTarget) -> None:
    try:
        if (await target.look()).stage == "none":
            source.forget()
    except UnibusError:
        return  # nobody knows: then the note stays


async def _send(target: MoveTarget, what: str, path: Path, progress: Progress) -> None:
    size = (await asyncio.to_thread(path.stat)).st_size
    sending = target.send(what, path, lambda done: progress(f"sending {what}", done, size))
    await _with_progress(target, sending, progress)


async def _with_progress(target: MoveTarget, work: Coroutine[Any, Any, object], progress: Progress) -> None:
    """Do `work`, and tell meanwhile how far the node says it is."""
    task = asyncio.create_task(work, name="move")
    try:
        while not (await asyncio.wait([task], timeout=_LOOK))[0]:
            with contextlib.suppress(UnibusError):  # what is wrong, the work itself tells
                view = await target.look()
                if view.doing:
                    progress(view.doing, view.done, view.of or None)
        await task
    finally:
        await end_tasks(task)


async def _send_blobs(source: Source, target: MoveTarget, progress: Progress) -> None:
    blobs = source.blobs()
    size, done = sum(blob.size for blob in blobs), 0

    def sent(count: int) -> None:
        nonlocal done
        done += count
        progress("sending blobs", done, size)

    waiting = iter(blobs)

    async def work() -> None:
        for blob in waiting:
            await _send_blob(source, target, blob, sent)

    workers = [asyncio.create_task(work(), name="move of blobs") for _ in range(AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        await end_tasks(*workers)


async def _send_blob(source: Source, target: MoveTarget, blob: StoredBlob, sent: Callable[[int], None]) -> None:
    counted, tries = 0, 0
    while True:
        try:
            view = await target.uploaded(blob.room, blob.id)
            while not view.stored:
                start = view.offset
                async with aclosing(source.read(blob, start, min(blob.size, start + MAX_PART))) as blocks:
                    view = await target.upload(blob.room, blob.id, start, blocks)
                if view.offset <= start and not view.stored:
                    raise Untrusted(f"the node does not take the blob {blob.id}")
                sent(view.offset - counted)
                counted = view.offset
        except RateLimited as error:
            await asyncio.sleep(float(str(error.extra.get("retry_after", 1))))
        except Unreachable:  # whoever is told to wait in the middle of sending may not hear why
            tries += 1
            if tries > TRIES:
                raise
            await asyncio.sleep(1)
        else:
            sent(view.offset - counted)
            return


async def _until_served(source: Source, target: MoveTarget) -> None:
    try:
        async with asyncio.timeout(SERVED_WITHIN):
            while await target.bus() != source.bus:  # noqa: ASYNC110 - a node tells nobody
                await asyncio.sleep(_LOOK)
    except TimeoutError as error:
        raise Unreachable("the bus is moved, but the node does not serve it yet: see unibus health there") from error
