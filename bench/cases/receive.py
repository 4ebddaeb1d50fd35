"""Stored messages that one client reads a second, verified and decrypted, beside nats-py's ordered consumer."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from nats.aio.msg import Msg

from bench import promises
from bench.cases.publish import SIZES
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.stage import Plain, Stage
from unibus.client.room import Room


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case a message size; stores what is going to be read."""
    for name, size in SIZES.items():
        count = min(plan.receive_most, plan.receive_bytes // size)
        body = os.urandom(size)
        room, reading = await stage.room(f"receive {name}")
        for _ in range(count):
            await room.room_to_post()
            room.post(body)
        await room.drain()
        subject = f"plain.receive.{size}"
        context = stage.plain.publisher.jetstream()
        for _ in range(count):
            await context.publish_async(subject, body)
        await context.publish_async_completed()
        yield Case(
            (Metric(f"receive {name}", "messages/s"),),
            (
                Side("unibus", promises.UNIBUS_READ, _unibus(reading, count)),
                Side("nats-py ordered consumer", promises.PLAIN_READ, _plain(stage.plain, subject, count)),
            ),
        )


def _unibus(room: Room, count: int) -> Callable[[], Awaitable[Sample]]:
    async def measure() -> Sample:
        begin = time.perf_counter()
        seen = 0
        async with aclosing(room.messages("start")) as messages:
            async for _ in messages:
                seen += 1
                if seen == count:
                    break
        return (count / (time.perf_counter() - begin),)

    return measure


def _plain(plain: Plain, subject: str, count: int) -> Callable[[], Awaitable[Sample]]:
    context = plain.receiver.jetstream()

    async def measure() -> Sample:
        seen = 0
        done = asyncio.Event()

        async def arrived(_: Msg) -> None:
            nonlocal seen
            seen += 1
            if seen == count:
                done.set()

        begin = time.perf_counter()
        # Limits would drop what the consumer's flow control already bounds.
        subscription = await context.subscribe(
            subject, cb=arrived, ordered_consumer=True, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        await done.wait()
        taken = time.perf_counter() - begin
        await subscription.unsubscribe()
        return (count / taken,)

    return measure
