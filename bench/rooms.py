"""`python -m bench.rooms`: what it costs to connect as somebody who is in very many rooms.

A connection names the rooms that it opens, so its size follows those and not all there are.
"""

import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from bench.prepared import prepare
from bench.processes import resident
from bench.programs import daemon, nats_port, nats_server
from bench.wire import Refused, connect
from unibus.bus import callout_core
from unibus.bus.keys import BusKeys
from unibus.bus.permissions import permissions
from unibus.client.bus import connect as enter
from unibus.crypto.identity import Identity
from unibus.services.ports import Grants

ROOMS = 10_000
CARRIED = (0, 1, 100, 500)
CONNECTIONS = 40


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a connection that carries `rooms`: the median seconds to be let in, and sizes in bytes."""

    rooms: int
    seconds: float
    connect: int
    token: int
    memory: float


@dataclass(frozen=True, slots=True)
class Place:
    """A daemon whose admin, `owner`, is in `rooms`; `server` is the process of its nats-server."""

    url: str
    nats_port: int
    server: int
    owner: Identity
    rooms: Sequence[str]


@asynccontextmanager
async def place(directory: Path, rooms: int) -> AsyncIterator[Place]:
    """A daemon for somebody with so many rooms, with all data under `directory`."""
    owner = Identity.from_secret(secrets.token_bytes(32))
    made = await prepare(directory / "unibus", owner, [], rooms)
    async with daemon(directory) as (url, data):
        yield Place(url, await nats_port(url), nats_server(data), owner, made)


async def cost(where: Place, carried: int, connections: int) -> Cost:
    """Measure `connections` that carry so many rooms each. Raises Refused."""
    rooms = where.rooms[:carried]
    wires = [await connect(where.nats_port, where.owner.signing, rooms)]
    try:
        before = resident(where.server)
        wires += [await connect(where.nats_port, where.owner.signing, rooms) for _ in range(connections)]
        grown = resident(where.server) - before
    finally:
        for wire in wires:
            wire.close()
    seconds = median(wire.seconds for wire in wires[1:])
    return Cost(carried, seconds, wires[0].sent, token_size(where.owner.user, rooms), max(0, grown) / connections)


def token_size(user: str, rooms: Sequence[str]) -> int:
    """How large the answer to the callout is that lets `user` in with `rooms`."""
    attempt = callout_core.Attempt("N" * 56, user, 1, "127.0.0.1", "", user, "", "", "", "", "")
    granted = permissions(Grants(user, tuple(rooms), tuple(rooms)))
    return len(callout_core.approval(attempt, granted, BusKeys.generate(os.urandom), int(time.time())))


async def first_message(where: Place) -> float:
    """Seconds for the library from nothing to a message stored in one of the rooms, named by its id."""
    began = time.perf_counter()
    async with enter(where.url, where.owner) as bus:
        await (await bus.room(where.rooms[-1])).send("here")
        return time.perf_counter() - began


async def refusal(where: Place, rooms: Sequence[str] | None) -> str:
    """How a connection that would carry too many rooms is refused."""
    try:
        wire = await connect(where.nats_port, where.owner.signing, rooms)
    except Refused as refused:
        return str(refused)
    wire.close()
    return ""


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="unibus-rooms-") as name:
        print(f"preparing {ROOMS:,} rooms …", file=sys.stderr)
        async with place(Path(name), ROOMS) as where:
            print(f"a user who is in {ROOMS:,} rooms")
            print(f"{'rooms carried':>14} {'let in, ms':>11} {'CONNECT, B':>11} {'JWT, B':>9} {'server, KiB':>12}")
            for carried in CARRIED:
                found = await cost(where, carried, CONNECTIONS)
                print(
                    f"{found.rooms:>14,} {found.seconds * 1000:>11.1f} {found.connect:>11,} {found.token:>9,}"
                    f" {found.memory / 1024:>12.0f}"
                )
            print(f"library, connect and send in one room: {await first_message(where):.2f} s")
            print(f"501 rooms named: {await refusal(where, where.rooms[:501])}")
            print(f"none named, so all: {await refusal(where, None)}")


if __name__ == "__main__":
    uvloop.run(main())
