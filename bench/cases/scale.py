"""A bus that has grown for years beside one with a room a user: its start, its memory, and what its users notice."""

import secrets
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path

from bench import promises
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.prepared import Founded, found, room_of, write
from bench.processes import resident
from bench.programs import daemon, daemon_process, fresh, healthy
from bench.stage import Stage
from unibus.client.bus import connect
from unibus.crypto.identity import Identity
from unibus.store.port import Append

USERS = 100
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Lived:
    """A bus on disk in `where`: `users`, and one room of each."""

    where: Path
    users: Sequence[tuple[Identity, str]]


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case. As many records a room on both sides."""
    each = max(1, plan.records // plan.rooms)
    print(f"preparing {plan.rooms:,} rooms with {plan.rooms * each:,} records …", file=sys.stderr)
    large = await lived(stage.directory / "large", plan.rooms, each)
    small = await lived(stage.directory / "small", USERS, each)
    yield Case(
        (
            Metric("start on a grown bus", "s"),
            Metric("its daemon's memory", "MB", "<= 300"),
            Metric("a user's first connection", "ms"),
            Metric("a room's first message", "ms"),
        ),
        (
            Side(f"unibus, {plan.rooms:,} rooms", promises.UNIBUS_START, started(large)),
            Side(f"unibus, {USERS} rooms", promises.UNIBUS_START, started(small), ("<= 3 s more", "", "~ 1", "~ 1")),
        ),
        rounds=plan.long_rounds,
        seconds=120,
    )


async def lived(where: Path, rooms: int, records: int) -> Lived:
    """A bus with so many rooms, shared out among its users, with so many records each."""
    owner, *users = (Identity.from_secret(secrets.token_bytes(32)) for _ in range(USERS + 1))
    bus = found(owner, [(f"user-{number}", user) for number, user in enumerate(users)])
    ids: list[str] = []
    await write(fresh(where) / "unibus", chain(bus.changes, _rooms(bus, users, rooms, records, ids)))
    return Lived(where, list(zip(users, ids, strict=False)))


def _rooms(bus: Founded, users: Sequence[Identity], rooms: int, records: int, ids: list[str]) -> Iterator[Append]:
    for number in range(rooms):
        signer = replace(bus.signer, identity=users[number % len(users)])
        room = room_of(bus, signer, f"room {number}", records)
        ids.append(room.id)
        yield from room.changes()


def started(bus: Lived) -> Callable[[], Awaitable[Sample]]:
    """Start a daemon on `bus`, and be a user that it has not seen since then."""
    numbers = count()

    async def measure() -> Sample:
        begin = time.perf_counter()
        async with daemon(bus.where) as (url, data):
            await healthy(f"{url}/healthz")
            start = time.perf_counter() - begin
            memory = resident(daemon_process(data))
            user, room = bus.users[next(numbers) % len(bus.users)]
            began = time.perf_counter()
            async with connect(url, user) as there:
                connected = time.perf_counter()
                await (await there.room(room)).send("here")
                sent = time.perf_counter()
        return start, memory / MEGABYTE, (connected - began) * 1000, (sent - connected) * 1000

    return measure
