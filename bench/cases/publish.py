"""How many messages a second one client gets acknowledged: unibus beside nats-py's own asynchronous publish."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from nats.js.api import PubAck

from bench import promises
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.stage import Plain, Stage
from unibus.client.room import Room

SIZES = {"128 B": 128, "4 KiB": 4096}
SLICE = 100  # messages between two looks at the clock
CALIBRATION = 0.2  # the share of a measured round that is spent on trying each window


async def cases(stage: Stage, plan: Plan) -> AsyncIterator[Case]:
    """One case a message size."""
    for name, size in SIZES.items():
        body = os.urandom(size)
        room, _ = await stage.room(f"publish {name}")
        yield Case(
            (Metric(f"publish {name}", "messages/s", ">= 4" if size == 128 else ""),),
            (
                Side("unibus", promises.UNIBUS, _unibus(room, body, plan.publish_seconds)),
                await _fastest("nats-py", promises.PLAIN, stage.plain, body, plan),
                await _fastest("nats-py, synced", promises.SYNCED, stage.synced, body, plan),
            ),
        )


def _unibus(room: Room, body: bytes, seconds: float) -> Callable[[], Awaitable[Sample]]:
    async def measure() -> Sample:
        sent = []
        begin = time.perf_counter()
        while time.perf_counter() < begin + seconds:
            for _ in range(SLICE):
                await room.room_to_post()
                sent.append(room.post(body))
        await room.drain()
        taken = time.perf_counter() - begin
        for each in sent:
            await each  # raises if it was not stored
        return (len(sent) / taken,)

    return measure


def _plain(plain: Plain, body: bytes, window: int, seconds: float) -> Callable[[], Awaitable[Sample]]:
    context = plain.publisher.jetstream(publish_async_max_pending=window)

    async def measure() -> Sample:
        sent: list[asyncio.Future[PubAck]] = []
        begin = time.perf_counter()
        while time.perf_counter() < begin + seconds:
            for _ in range(SLICE):
                sent.append(await context.publish_async("plain.publish", body))
        await context.publish_async_completed()
        taken = time.perf_counter() - begin
        for each in sent:
            each.result()  # raises if it was not stored
        return (len(sent) / taken,)

    return measure


async def _fastest(name: str, promise: str, plain: Plain, body: bytes, plan: Plan) -> Side:
    """The side with the window that makes nats-py fastest here."""
    rates = {}
    for window in plan.windows:
        (rates[window],) = await _plain(plain, body, window, plan.publish_seconds * CALIBRATION)()
    best = max(rates, key=lambda window: rates[window])
    return Side(f"{name} ({best} unacknowledged)", promise, _plain(plain, body, best, plan.publish_seconds))
