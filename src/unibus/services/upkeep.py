"""What must be done now and then for as long as a node runs. Of several nodes one does what one is enough for.

Every loop goes on after a store that does not serve, and says so. None decides what is old or unused: services do.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from unibus.errors import BusUnavailable, StorageUnavailable
from unibus.model.bodies import RoomRetention
from unibus.model.records import DIRECTORY, ROOM_PREFIX
from unibus.services.abandoned import Abandoned
from unibus.services.blobs import Blobs
from unibus.services.gate import retention_mark
from unibus.services.ports import BusEffects
from unibus.store.port import Store

EVERY = 60.0  # seconds
PAGE = 500
SWEEP_EVERY = 3600.0  # seconds
SWEEP_AGAIN = 15.0
"""Seconds until the next try after a sweep that failed; each further one waits for twice as long."""
LEFT_OVER = 86_400.0
"""Seconds after which what a writer left half done is taken for left over: no writer is as slow."""

log = structlog.stdlib.get_logger("unibus.upkeep")


async def forget_claims(store: Store, clock: Callable[[], float], every: float = EVERY) -> None:
    """Drop expired nonces every so many seconds, without end. `clock` gives Unix seconds."""
    while True:
        await asyncio.sleep(every)
        try:
            await store.forget_claims(int(clock()))
        except StorageUnavailable as error:
            log.warning("expired nonces not dropped", reason=error.message)


async def _is_ours(store: Store, what: str, every: float, clock: Callable[[], float]) -> bool:
    """Whether this node is the one that does `what` now. Whoever claims the present span of `every` seconds is."""
    span = int(clock() // every)
    return await store.claim(f"upkeep/{what}/{span}", int((span + 2) * every))


async def _sweep(
    store: Store,
    what: str,
    work: Callable[[], Awaitable[object]],
    clock: Callable[[], float],
    ready: Callable[[], None],
    every: float,
) -> None:
    """Do `work`, which is called `what`, as soon as `ready` raises nothing, then every so many seconds, without end.

    No other node makes up for one that failed: it is this node's until it is done.
    """
    ours, pause = False, SWEEP_AGAIN
    while True:
        try:
            ready()
        except (StorageUnavailable, BusUnavailable):  # `/readyz` says why
            await asyncio.sleep(min(every, SWEEP_AGAIN))
            continue
        try:
            ours = ours or await _is_ours(store, what, every, clock)
            if ours:
                await work()
            ours, pause = False, SWEEP_AGAIN
            await asyncio.sleep(every)
        except (StorageUnavailable, BusUnavailable) as error:
            log.warning("a sweep was not done", of=what, reason=error.message)
            await asyncio.sleep(min(every, pause))
            pause = min(SWEEP_EVERY, 2 * pause)


async def sweep_blobs(
    store: Store, blobs: Blobs, clock: Callable[[], float], ready: Callable[[], None], every: float = SWEEP_EVERY
) -> None:
    """Drop stale uploads and blobs that nothing refers to: as soon as `ready` raises nothing, then now and then."""
    await _sweep(store, "blobs", blobs.sweep, clock, ready, every)


async def sweep_parts(
    store: Store,
    sweep: Callable[[float], Awaitable[int]],
    clock: Callable[[], float],
    ready: Callable[[], None],
    every: float = SWEEP_EVERY,
) -> None:
    """Have `sweep` drop what writers left half done until a Unix time, and say how much of it there was.

    As soon as `ready` raises nothing, then now and then.
    """

    async def drop() -> None:
        if dropped := await sweep(clock() - LEFT_OVER):
            log.info("parts of records that were never finished were dropped", records=dropped)

    await _sweep(store, "parts", drop, clock, ready, every)


async def free_abandoned(
    store: Store,
    abandoned: Abandoned,
    clock: Callable[[], float],
    ready: Callable[[], None],
    every: float = SWEEP_EVERY,
) -> None:
    """Free what rooms without members hold: as soon as `ready` raises nothing, then now and then, without end."""
    await _sweep(store, "abandoned", abandoned.sweep, clock, ready, every)


async def recount_blobs(blobs: Blobs, every: float = EVERY) -> None:
    """Count what other nodes have stored and deleted, every so many seconds, without end: quotas are the bus's."""
    while True:
        await asyncio.sleep(every)
        try:
            await blobs.recount()
        except StorageUnavailable as error:
            log.warning("blobs not counted", reason=error.message)


async def drop_old_messages(
    store: Store, effects: BusEffects, clock: Callable[[], float], ready: Callable[[], None], every: float = EVERY
) -> None:
    """Have the bus drop what rooms with a retention no longer keep, now and then, when `ready` raises nothing.

    While a bus is being moved in, what its rooms keep is there before all of it was compared.
    """
    while True:
        await asyncio.sleep(every)
        after = ""
        try:
            ready()
            if not await _is_ours(store, "messages", every, clock):
                continue
            while page := await store.marks(retention_mark(), after, PAGE):
                for after, kept in page:
                    limits = RoomRetention.model_validate_json(kept)
                    await effects.retain(after.removeprefix(retention_mark()), limits.seconds, limits.bytes)
        except StorageUnavailable as error:
            log.warning("old messages not dropped", reason=error.message)


async def measure(store: Store, blobs: Blobs, report: Callable[[str, float], None], every: float = EVERY / 4) -> None:
    """Report how much the node holds, by the names `rooms`, `records` and `blob_bytes`, every so many seconds."""
    while True:
        try:
            rooms, directory = await store.counts(ROOM_PREFIX), await store.counts(DIRECTORY)
            report("rooms", rooms.logs)
            report("records", rooms.entries + directory.entries)
        except StorageUnavailable as error:
            log.warning("the store could not be measured", reason=error.message)
        report("blob_bytes", blobs.stored_bytes)
        await asyncio.sleep(every)


async def watch_loop(report: Callable[[float], object]) -> None:
    """Report how late the event loop is, in seconds, once a second, without end."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + 1
        await asyncio.sleep(1)
        report(loop.time() - due)
