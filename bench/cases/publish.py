"""How many messages a second one client gets acknowledged: unibus beside nats-py's own asynchronous publish."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from nats.js.api import PubAck

from bench import c_client, promises
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.stage import Plain, Stage
from unibus.client.room import Room

SIZES = {"128 B": 128, "4 KiB": 4096}
SLICE = 100  # messages between two looks at the clock
SUBJECT = "plain.publish"
CALIBRATION = 0.2  # the share of a measured round that is spent on trying each window

Windowed = Callable[[int, float], Awaitable[float]]
"""Messages a second with so many unacknowledged at most, over so many seconds."""


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case a message size."""
    program = await c_client.build(stage.directory)
    if program is None:
        print(c_client.MISSING, file=sys.stderr)
    for name, size in SIZES.items():
        body = os.urandom(size)
        room, _ = await stage.room(f"publish {name}")
        small = size == 128
        sides = [
            Side("unibus", promises.UNIBUS, unibus(room, body, plan.publish_seconds)),
            await _fastest("nats-py", promises.PLAIN, nats_py(stage.plain, body), plan, ">= 4" if small else ">= 1"),
            await _fastest("nats-py, synced", promises.SYNCED, nats_py(stage.synced, body), plan),
        ]
        if program is not None:
            goal = ">= 1" if small else ""
            c, synced = _c(program, stage.plain, size), _c(program, stage.synced, size)
            sides.append(await _fastest("C client", promises.PLAIN, c, plan, goal))
            sides.append(await _fastest("C client, synced", promises.SYNCED, synced, plan, goal))
        yield Case((Metric(f"publish {name}", "messages/s"),), tuple(sides))


def unibus(room: Room, body: bytes, seconds: float) -> Callable[[], Awaitable[Sample]]:
    """Post `body` into `room` for so many seconds."""

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


def nats_py(plain: Plain, body: bytes) -> Windowed:
    """Publish `body` as nats-py does it fastest."""

    async def measure(window: int, seconds: float) -> float:
        context = plain.publisher.jetstream(publish_async_max_pending=window)
        sent: list[asyncio.Future[PubAck]] = []
        begin = time.perf_counter()
        while time.perf_counter() < begin + seconds:
            for _ in range(SLICE):
                sent.append(await context.publish_async(SUBJECT, body))
        await context.publish_async_completed()
        taken = time.perf_counter() - begin
        for each in sent:
            each.result()  # raises if it was not stored
        return len(sent) / taken

    return measure


def _c(program: Path, plain: Plain, size: int) -> Windowed:
    async def measure(window: int, seconds: float) -> float:
        return await c_client.publish(program, plain.server.url, SUBJECT, size, seconds, window)

    return measure


async def _fastest(name: str, promise: str, measure: Windowed, plan: Plan, goal: str = "") -> Side:
    """The side with the window that makes it fastest here."""
    rates = {window: await measure(window, plan.publish_seconds * CALIBRATION) for window in plan.windows}
    best = max(rates, key=lambda window: rates[window])

    async def best_of_all() -> Sample:
        return (await measure(best, plan.publish_seconds),)

    return Side(f"{name} ({best} unacknowledged)", promise, best_of_all, (goal,))
