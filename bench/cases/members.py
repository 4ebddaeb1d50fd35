"""Very large rooms: removing somebody from one, and opening one as a newcomer, beside rooms of ten."""

import secrets
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bench import newcomer, promises
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.prepared import found, room_of, write
from bench.programs import daemon, fresh, program
from bench.stage import Stage
from unibus.client.bus import connect
from unibus.client.room import Room
from unibus.crypto.identity import Identity

FEW = 10
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Crowd:
    """A bus at `url` on which everybody is in the room `all_in`; `owner` looks at another one, `removing`."""

    url: str
    members: Sequence[Identity]
    all_in: str
    removing: Room


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """Two cases."""
    print(f"preparing rooms of {plan.members:,} and {plan.newcomer_members:,} members …", file=sys.stderr)
    async with (
        crowd(stage.directory / "many", plan.newcomer_members, plan.members) as many,
        crowd(stage.directory / "few", FEW, FEW) as few,
    ):
        yield Case(
            (Metric("one removal", "s", "<= 1"),),
            (
                Side(f"unibus, {plan.members:,} members", promises.REMOVED, removal(many)),
                Side(f"unibus, {FEW} members", promises.REMOVED, removal(few)),
            ),
            rounds=plan.long_rounds,
            seconds=120,
        )
        yield Case(
            (Metric("a newcomer opens a room", "s", "<= 2"), Metric("with memory at most", "MB")),
            (
                Side(f"unibus, {plan.newcomer_members:,} members", promises.OPENED, opening(many, stage.directory)),
                Side(f"unibus, {FEW} members", promises.OPENED, opening(few, stage.directory)),
            ),
            rounds=plan.long_rounds,
            seconds=120,
        )


@asynccontextmanager
async def crowd(where: Path, users: int, members: int) -> AsyncIterator[Crowd]:
    """A bus with so many users in one room, and `members` of them in another."""
    owner, *others = (Identity.from_secret(secrets.token_bytes(32)) for _ in range(users))
    bus = found(owner, [(f"user-{number}", user) for number, user in enumerate(others)])
    all_in = room_of(bus, bus.signer, "all", members=others)
    some = room_of(bus, bus.signer, "some", members=others[: members - 1])
    await write(fresh(where) / "unibus", chain(bus.changes, all_in.changes(), some.changes()))
    async with daemon(where) as (url, _), connect(url, owner) as there:
        yield Crowd(url, others, all_in.id, await there.room(some.id))


def removal(crowd: Crowd) -> Callable[[], Awaitable[Sample]]:
    """Remove the next member."""
    handles = iter([handle for handle, role in crowd.removing.members.items() if role == "member"])

    async def measure() -> Sample:
        handle = next(handles)
        begin = time.perf_counter()
        await crowd.removing.remove(handle)
        return (time.perf_counter() - begin,)

    return measure


def opening(crowd: Crowd, where: Path) -> Callable[[], Awaitable[Sample]]:
    """Open the room that everybody is in, as the member who came last."""
    arguments = [sys.executable, newcomer.__file__, crowd.url, crowd.members[-1].seed, crowd.all_in]

    async def measure() -> Sample:
        async with program(arguments, "opened", where / "newcomer.log") as said:
            seconds, memory = said.split()
            return float(seconds), float(memory) / MEGABYTE

    return measure
