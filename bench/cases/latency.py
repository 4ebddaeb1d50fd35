"""How long one message takes from the call that publishes it to the code that gets it, one message at a time."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

from nats.aio.msg import Msg
from nats.js.api import DeliverPolicy

from bench import promises
from bench.harness import Case, Metric, Sample, Side, percentile
from bench.plan import Plan
from bench.stage import Plain, Stage

Arrivals = asyncio.Queue[float]


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case: unibus, nats-py without a store, nats-py with a store that syncs."""
    body = os.urandom(128)
    count = plan.latency_messages
    yield Case(
        (Metric("delivery, p50", "ms"), Metric("delivery, p99", "ms")),
        (
            Side("unibus", promises.UNIBUS, lambda: _unibus(stage, body, count)),
            Side("nats-py core", promises.CORE, lambda: _core(stage.plain, body, count), ("<= 2",)),
            Side("nats-py, synced", promises.SYNCED, lambda: _stored(stage.synced, body, count)),
        ),
    )


async def _one_at_a_time(publish: Callable[[], Awaitable[object]], arrivals: Arrivals, count: int) -> Sample:
    seconds = []
    for _ in range(count):
        begin = time.perf_counter()
        await publish()
        seconds.append(await arrivals.get() - begin)
    return percentile(seconds, 0.50) * 1000, percentile(seconds, 0.99) * 1000


async def _unibus(stage: Stage, body: bytes, count: int) -> Sample:
    # A room for each round: nothing of an earlier one is on its way in it.
    room, reading = await stage.room("delivery")
    arrivals: Arrivals = asyncio.Queue()
    open_now = asyncio.Event()

    async def read() -> None:
        async for message in reading.messages("now"):
            if message.data == body:
                arrivals.put_nowait(time.perf_counter())
            else:
                open_now.set()

    async def publish() -> None:
        room.post(body)

    reader = asyncio.create_task(read())
    try:
        # "now" is when the daemon has opened the delivery, and the first message that comes says that it has.
        while not open_now.is_set():
            await room.send(b"is this on?")
        sample = await _one_at_a_time(publish, arrivals, count)
        await room.drain()
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    return sample


async def _core(plain: Plain, body: bytes, count: int) -> Sample:
    arrivals: Arrivals = asyncio.Queue()

    async def arrived(_: Msg) -> None:
        arrivals.put_nowait(time.perf_counter())

    subscription = await plain.receiver.subscribe("core.delivery", cb=arrived)
    # nats-py's flush sends its PING ahead of what waits to be written: only the second one comes after the SUB.
    await plain.receiver.flush()
    await plain.receiver.flush()
    sample = await _one_at_a_time(lambda: plain.publisher.publish("core.delivery", body), arrivals, count)
    await subscription.unsubscribe()
    return sample


async def _stored(plain: Plain, body: bytes, count: int) -> Sample:
    arrivals: Arrivals = asyncio.Queue()

    async def arrived(_: Msg) -> None:
        arrivals.put_nowait(time.perf_counter())

    subscription = await plain.receiver.jetstream().subscribe(
        "plain.delivery", cb=arrived, ordered_consumer=True, deliver_policy=DeliverPolicy.NEW
    )
    publisher = plain.publisher.jetstream()
    sample = await _one_at_a_time(lambda: publisher.publish_async("plain.delivery", body), arrivals, count)
    await publisher.publish_async_completed()
    await subscription.unsubscribe()
    return sample
