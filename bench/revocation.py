"""`python -m bench.revocation`: how long somebody who loses a right stays connected, with a thousand others there.

From the moment the signed request is sent, and from the moment it is answered, until the server has ended the
connection. Measured at the sockets, in one process with all connections, so the numbers are upper bounds.
"""

import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.harness import percentile
from bench.prepared import prepare
from bench.programs import daemon, nats_port
from bench.wire import Wire, connect
from unibus.client.bus import Bus
from unibus.client.bus import connect as enter
from unibus.client.changes import Change
from unibus.crypto.identity import Identity
from unibus.model.bodies import RoomArchive, RoomSetRole

OTHERS, EACH = 1_000, 30


@dataclass(frozen=True, slots=True)
class Cut:
    """Seconds from the request, and from its answer, to the end of the connection; below 0 if it came before."""

    from_request: float
    from_answer: float


Loses = Callable[[Bus, Identity, str], Awaitable[Change]]


async def _revoked(bus: Bus, victim: Identity, _room: str) -> Change:
    return bus.signer().revoke(bus.directory, victim.user)


async def _removed(bus: Bus, victim: Identity, room: str) -> Change:
    state = bus.replica.rooms[room]
    return bus.signer().remove(state, bus.directory, await bus.keyring.current(state), victim.user)


async def _demoted(bus: Bus, victim: Identity, room: str) -> Change:
    return bus.signer().plain(bus.replica.rooms[room], bus.directory, RoomSetRole(user=victim.user, role="reader"))


async def _archived(bus: Bus, _victim: Identity, room: str) -> Change:
    return bus.signer().plain(bus.replica.rooms[room], bus.directory, RoomArchive())


WAYS: Mapping[str, Loses] = {
    "removed": _removed,
    "demoted": _demoted,
    "archived": _archived,
    "revoked": _revoked,
}


@dataclass(frozen=True, slots=True)
class Place:
    """A bus with its admin, and `victims`, each with a room that the admin made."""

    bus: Bus
    nats_port: int
    victims: list[tuple[Identity, str]]


@asynccontextmanager
async def crowd(directory: Path, others: int, victims: int) -> AsyncIterator[Place]:
    """A bus on which `others` are connected, with all data under `directory`. Raises Refused, UnibusError."""
    owner = Identity.from_secret(secrets.token_bytes(32))
    users = [Identity.from_secret(secrets.token_bytes(32)) for _ in range(others + victims)]
    named = [(f"user-{number}", user) for number, user in enumerate(users)]
    rooms = await prepare(directory / "unibus", owner, named, victims)
    async with daemon(directory) as (url, _):
        port = await nats_port(url)
        wires: list[Wire] = []
        try:
            for first in range(victims, len(users), 50):
                at_once = users[first : first + 50]
                wires += await asyncio.gather(*(connect(port, user.signing, []) for user in at_once))
            async with enter(url, owner) as bus:
                yield Place(bus, port, list(zip(users[:victims], rooms, strict=True)))
        finally:
            for wire in wires:
                wire.close()


async def cut(place: Place, victim: Identity, room: str, loses: Loses) -> Cut:
    """Have `victim`, who is connected and in `room`, lose something. Raises TimeoutError if it stays connected."""
    bus = place.bus
    await (await bus.room(room)).add(victim.user)
    wire = await connect(place.nats_port, victim.signing, [room])
    try:
        change = await loses(bus, victim, room)
        ending = asyncio.create_task(wire.ended())
        asked = time.perf_counter()
        await bus.api.append(change.log, change.record, change.sealed)
        answered = time.perf_counter()
        async with asyncio.timeout(5.0):
            ended = await ending
    finally:
        wire.close()
    await bus.replica.sync_directory()
    return Cut(ended - asked, ended - answered)


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="unibus-revocation-") as name:
        print(f"connecting {OTHERS:,} others …", file=sys.stderr)
        async with crowd(Path(name), OTHERS, EACH * len(WAYS)) as place:
            print(f"{OTHERS:,} others connected; milliseconds from the request, from its answer")
            print(f"{'':>10} {'cuts':>5} {'p50':>7} {'p99':>7} {'most':>7}   {'p50':>7} {'p99':>7}")
            left = iter(place.victims)
            every: list[Cut] = []
            for way, loses in WAYS.items():
                cuts = [await cut(place, *next(left), loses) for _ in range(EACH)]
                every += cuts
                print(row(way, cuts))
            print(row("all", every))


def row(way: str, cuts: list[Cut]) -> str:
    """One line of the table."""
    asked, answered = [each.from_request * 1000 for each in cuts], [each.from_answer * 1000 for each in cuts]
    first = " ".join(f"{value:>7.1f}" for value in (percentile(asked, 0.5), percentile(asked, 0.99), max(asked)))
    second = " ".join(f"{percentile(answered, share):>7.1f}" for share in (0.5, 0.99))
    return f"{way:>10} {len(cuts):>5} {first}   {second}"


if __name__ == "__main__":
    uvloop.run(main())
