"""One sender, many receivers: how many deliveries a second arrive, with all receivers in this one process."""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bench import promises
from bench.harness import Case, Metric, Sample, Side
from bench.peers import mosquitto, synapse
from bench.plan import Plan
from bench.stage import Plain, Stage
from unibus.client.bus import connect
from unibus.client.room import Room
from unibus.crypto.identity import Identity

BODY = os.urandom(128)
CORE = "core.fanout"
SLOWER = 20  # as many times fewer messages are sent by way of Synapse, or a round takes minutes

Entered = TypeVar("Entered")


class Enter(Protocol):
    """`AsyncExitStack.enter_async_context`."""

    async def __call__(self, context: AbstractAsyncContextManager[Entered], /) -> Entered:
        """Enter it."""


class Arrivals:
    """Counts what arrives anywhere; `all_in` is set when `expected` have."""

    def __init__(self) -> None:
        self.expected = 0
        self.all_in = asyncio.Event()
        self._count = 0

    def expect(self, count: int) -> None:
        """Count anew, up to `count`."""
        self.expected, self._count = count, 0
        self.all_in.clear()

    def one(self) -> None:
        """Something arrived."""
        self._count += 1
        if self._count == self.expected:
            self.all_in.set()


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
            sides += await _peers(stage, enter, count, receivers)
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


async def _peers(stage: Stage, enter: Enter, count: int, receivers: int) -> list[Side]:
    """The sides that are installed here."""
    sides = []
    if (broker := mosquitto.found()) is not None:
        port = await enter(mosquitto.server(stage.directory / f"mosquitto-{receivers}", *broker))
        measure = _mosquitto(port, count, receivers)
        sides.append(Side("mosquitto, dynamic security", mosquitto.PROMISE, measure, (">= 1",)))
    else:
        print(mosquitto.MISSING, file=sys.stderr)
    if (python := synapse.found()) is not None:
        url = await enter(synapse.server(stage.directory / f"synapse-{receivers}", python))
        arrivals = Arrivals()
        sender, room = await enter(synapse.room_with(url, receivers, arrivals.one))
        measure = _synapse(sender, room, arrivals, max(1, count // SLOWER), receivers)
        sides.append(Side("synapse", synapse.PROMISE, measure, (">= 20",)))
    else:
        print(synapse.MISSING, file=sys.stderr)
    return sides


def _mosquitto(port: int, count: int, receivers: int) -> Callable[[], Awaitable[Sample]]:
    async def measure() -> Sample:
        arrivals = Arrivals()
        arrivals.expect(count * receivers)
        clients = [await mosquitto.connect(port, f"reader-{n}", arrivals.one) for n in range(receivers)]
        clients.append(await mosquitto.connect(port, "sender"))
        begin = time.perf_counter()
        for _ in range(count):
            clients[-1].publish(BODY)
        await arrivals.all_in.wait()
        taken = time.perf_counter() - begin
        for client in clients:
            client.transport.abort()
        return (count * receivers / taken,)

    return measure


def _synapse(
    sender: synapse.User, room: str, arrivals: Arrivals, count: int, receivers: int
) -> Callable[[], Awaitable[Sample]]:
    async def measure() -> Sample:
        arrivals.expect(count * receivers)
        begin = time.perf_counter()
        await sender.send_all(room, BODY.hex()[: len(BODY)], count)
        await arrivals.all_in.wait()
        return (count * receivers / (time.perf_counter() - begin),)

    return measure
