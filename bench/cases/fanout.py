"""One sender, many receivers: how many deliveries a second arrive, with all receivers in this one process."""

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench import promises
from bench.arrivals import Arrivals
from bench.cases.fanout_peers import Load, peers
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.stage import Plain, Stage
from unibus.client.bus import connect
from unibus.client.room import Room
from unibus.crypto.identity import Identity

BODY = os.urandom(128)
CORE = "core.fanout"


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case a number of receivers."""
    for receivers in plan.receivers:
        count = max(1, plan.deliveries // receivers)
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            room, arrivals = await enter(listening(stage, receivers))
            at_core = await enter(subscribed(stage.plain, receivers))
            sides = [
                Side("unibus", promises.UNIBUS, _unibus(room, arrivals, count, receivers)),
                Side("nats-py core", promises.CORE, _core(stage.plain, at_core, count, receivers)),
            ]
            sides += await peers(stage.directory, enter, BODY, Load(receivers, count))
            yield Case((Metric(f"1 to {receivers}, 128 B", "deliveries/s"),), tuple(sides))


@asynccontextmanager
async def listening(stage: Stage, receivers: int) -> AsyncIterator[tuple[Room, Arrivals]]:
    """A room of the sender's with so many members who read it."""
    arrivals = Arrivals()
    room = await stage.sender.create_room(f"fan-out {receivers}")
    readers: list[asyncio.Task[None]] = []
    async with AsyncExitStack() as stack:
        for number in range(receivers):
            identity = Identity.from_secret(secrets.token_bytes(32))
            await stage.sender.admit(f"reader-{receivers}-{number}", identity.card())
            await room.add(identity.user)
            bus = await stack.enter_async_context(connect(stage.url, identity))
            readers.append(asyncio.create_task(_read(await bus.room(room.id), arrivals)))
        try:
            # Read from the start: this one reaches whoever is not yet there, too.
            arrivals.expect(receivers)
            await room.send(BODY)
            await arrivals.all_in.wait()
            yield room, arrivals
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)


async def _read(room: Room, arrivals: Arrivals) -> None:
    async for _ in room.messages("start"):
        arrivals.one()


def _unibus(room: Room, arrivals: Arrivals, count: int, receivers: int) -> Callable[[], Awaitable[Sample]]:
    async def measure() -> Sample:
        arrivals.expect(count * receivers)
        begin = time.perf_counter()
        for _ in range(count):
            room.post(BODY)
        await room.drain()
        await arrivals.all_in.wait()
        return (count * receivers / (time.perf_counter() - begin),)

    return measure


@asynccontextmanager
async def subscribed(plain: Plain, receivers: int) -> AsyncIterator[Arrivals]:
    """So many connections that are subscribed to `CORE`."""
    arrivals = Arrivals()

    async def arrived(_: Msg) -> None:
        arrivals.one()

    clients: list[Client] = []
    try:
        for _ in range(receivers):
            clients.append(await nats.connect(plain.server.url, max_reconnect_attempts=1))
            await clients[-1].subscribe(CORE, cb=arrived, pending_msgs_limit=-1, pending_bytes_limit=-1)
            # nats-py's flush sends its PING ahead of what waits to be written: only the second one comes after the SUB.
            await clients[-1].flush()
            await clients[-1].flush()
        yield arrivals
    finally:
        for client in clients:
            await client.close()


def _core(plain: Plain, arrivals: Arrivals, count: int, receivers: int) -> Callable[[], Awaitable[Sample]]:
    async def measure() -> Sample:
        arrivals.expect(count * receivers)
        begin = time.perf_counter()
        for _ in range(count):
            await plain.publisher.publish(CORE, BODY)
        await arrivals.all_in.wait()
        return (count * receivers / (time.perf_counter() - begin),)

    return measure
