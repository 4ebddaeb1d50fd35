"""Very many who are connected: the memory they take, and how they all come back after the server was killed under them.

It is killed with `kill -9`, nats-server with it, and started again at once. Beside it a nats-server that has the users'
keys itself. Those who come back wait before each try as the client library does, and share the machine with the server.
"""

import asyncio
import resource
import secrets
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count

from bench import promises
from bench.harness import Case, Metric, Sample, Side, percentile
from bench.herd import Up, identities
from bench.herded import Herded, herded
from bench.plan import Plan
from bench.prepared import prepare
from bench.programs import daemon, daemon_process, fresh, nats_child, nats_server
from bench.stage import Stage
from unibus.client.bus import connect
from unibus.client.room import Room
from unibus.cluster.ports import free_ports
from unibus.crypto.identity import Identity
from unibus.tasks import end_tasks

SPARE = 500  # open files of a process, besides two for each connection
PAUSE = 0.01  # seconds between two messages of somebody who goes on
LONGER = 0.5  # seconds, for which it does when all are back
SECONDS = 240


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """Three cases, all with the same two servers."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * plan.herd + SPARE
    if files != resource.RLIM_INFINITY and files < needed:
        print(f"{plan.herd:,} connections are left out: they need ulimit -Hn {needed}", file=sys.stderr)
        return
    print(f"connecting {plan.herd:,} …", file=sys.stderr)
    where, secret, owner = fresh(stage.directory / "herd"), secrets.token_bytes(32), _somebody()
    users = identities(secret, plan.herd)
    (room,) = await prepare(where / "unibus", owner, [(f"user-{n}", user) for n, user in enumerate(users)], 1)
    http, nats, static_port = free_ports(3)
    url = f"http://127.0.0.1:{http}"

    @asynccontextmanager
    async def unibus() -> AsyncIterator[Sequence[int]]:
        async with daemon(where, "--http-bind", f"127.0.0.1:{http}", "--nats-bind", f"127.0.0.1:{nats}") as (_, data):
            yield daemon_process(data), nats_server(data)

    @asynccontextmanager
    async def static() -> AsyncIterator[Sequence[int]]:
        keys = {"authorization": {"users": [{"nkey": user.user} for user in users]}, "port": static_port}
        async with nats_child(where / f"static-{next(lives)}", keys) as server:
            yield (server.pid,)

    lives = count()
    async with (
        herded(unibus, "unibus", http, plan.herd, secret, where / "herd.log") as ours,
        herded(static, "nats", static_port, plan.herd, secret, where / "static-herd.log") as theirs,
    ):
        for case in (_memory(ours, theirs, plan), _back(ours, theirs, plan)):
            yield case
        async with connect(url, owner) as bus:
            yield _going_on(ours, await bus.room(room), plan)


def _somebody() -> Identity:
    return Identity.from_secret(secrets.token_bytes(32))


def _memory(ours: Herded, theirs: Herded, plan: Plan) -> Case:
    async def measure(herded: Herded, *numbers: int) -> Sample:
        return (herded.memory(*numbers),)

    return Case(
        (Metric(f"{plan.herd:,} connected, memory", "MB"),),
        (
            Side("unibus, daemon and nats-server", promises.CALLOUT, lambda: measure(ours, 0, 1)),
            Side("its daemon", promises.CALLOUT, lambda: measure(ours, 0)),
            Side("nats-server alone, static nkeys", promises.STATIC, lambda: measure(theirs, 0)),
        ),
        rounds=1,
    )


def _back(ours: Herded, theirs: Herded, plan: Plan) -> Case:
    async def measure(herded: Herded) -> Sample:
        killed, up = await herded.restart()
        return returned(killed, up)

    return Case(
        (
            *(Metric(f"{plan.herd:,} cut off, {share} back", "s") for share in ("one", "half", "99 %", "all")),
            Metric("their tries, for each", "tries"),
            Metric("connections the bus saw, for each", "logins"),
        ),
        (
            Side("unibus", promises.UNIBUS_BACK, lambda: measure(ours)),
            Side("nats-server alone, static nkeys", promises.STATIC_BACK, lambda: measure(theirs)),
        ),
        rounds=plan.restarts,
        seconds=SECONDS,
    )


def returned(killed: float, up: Up) -> Sample:
    """Seconds until one, half, 99 % and all were back; how often each tried, and how often each reached the bus."""
    seconds = [at - killed for at in (up.first, up.half, up.most, up.last)]
    return *seconds, up.tries / up.count, 1 + up.refused / up.count


def _going_on(ours: Herded, room: Room, plan: Plan) -> Case:
    """Somebody who sends meanwhile: nothing fails, and once it is back, others who come hardly hinder it."""

    async def measure() -> Sample:
        await room.send("here")
        sent: list[tuple[float, float]] = []
        sending = asyncio.create_task(_send_on(room, sent))
        try:
            killed, _ = await ours.restart()
            await room.send("all are back")  # which is stored after whatever still waits in this room
            await asyncio.wait([sending], timeout=LONGER)
            if sending.done():
                sending.result()  # raises what failed
        finally:
            await end_tasks(sending)
        longest, again = max((end - begin, end) for begin, end in sent if end > killed)
        waits = [end - begin for begin, end in sent if begin >= again] or [longest]
        return longest, percentile(waits, 0.5) * 1000, percentile(waits, 0.99) * 1000

    return Case(
        (
            Metric("who sends on meanwhile waits at most", "s"),
            Metric("and then, while the others come, p50", "ms"),
            Metric("and then, while the others come, p99", "ms"),
        ),
        (Side("unibus", promises.GOING_ON, measure),),
        rounds=plan.restarts,
        seconds=SECONDS,
    )


async def _send_on(room: Room, sent: list[tuple[float, float]]) -> None:
    while True:
        begin = time.monotonic()
        await room.send("here")
        sent.append((begin, time.monotonic()))
        await asyncio.sleep(PAUSE)
