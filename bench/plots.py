"""`python -m bench.plots DIRECTORY`: how what a bus costs grows with what is on it, measured and drawn as SVG files.

Growth is what counts here: absolute numbers are the table's (`python -m bench`), which has references beside them.
"""

import asyncio
import logging
import secrets
import sys
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from os import urandom
from pathlib import Path
from statistics import median

import click
import structlog
import uvloop

from bench.cases import publish
from bench.cases.members import crowd, opening, removal
from bench.cases.scale import lived, started
from bench.harness import Sample
from bench.prepared import prepare
from bench.processes import resident
from bench.programs import daemon, daemon_process, fresh, nats_port, nats_server
from bench.rooms import first_message, place
from bench.stage import stage
from bench.svg import Chart, draw
from bench.wire import Wire, connect
from unibus.crypto.identity import Identity

MEGABYTE = 1e6
WINDOW = 1_000
AT_ONCE = 50
RECORDS_A_ROOM = 10


@dataclass(frozen=True, slots=True)
class Effort:
    """How often each size is measured, and for how many seconds what is a rate."""

    times: int = 3
    seconds: float = 0.5


Values = Mapping[str, float]
"""What was measured at one size, by the name of its line in the chart."""
Measure = Callable[[Path, Sequence[int], Effort], AsyncGenerator[tuple[int, Values], None]]


async def members_in_a_room(
    where: Path, sizes: Sequence[int], effort: Effort
) -> AsyncGenerator[tuple[int, Values], None]:
    """Seconds of one removal, and of a newcomer's opening and verifying."""
    for size in sizes:
        async with crowd(where / str(size), size, size) as bus:
            opened = await _median(opening(bus, where), effort)
            yield size, {"one removal": await _median(removal(bus), effort), "a newcomer opens it": opened}


async def rooms_of_a_user(
    where: Path, sizes: Sequence[int], effort: Effort
) -> AsyncGenerator[tuple[int, Values], None]:
    """Seconds from nothing to a message stored in one of the rooms."""
    for size in sizes:
        async with place(fresh(where / str(size)), size) as there:
            seconds = [await first_message(there) for _ in range(effort.times)]
            yield size, {"connect and send in one of them": median(seconds)}


async def records_in_a_bus(
    where: Path, sizes: Sequence[int], effort: Effort
) -> AsyncGenerator[tuple[int, Values], None]:
    """Seconds until a daemon is healthy, and until a user's first message is stored after that; megabytes."""
    for size in sizes:
        bus = await lived(where / str(size), max(1, size // RECORDS_A_ROOM), min(size, RECORDS_A_ROOM))
        measure = started(bus)
        start, memory, connected, sent = map(median, zip(*[await measure() for _ in range(effort.times)], strict=True))
        first = (connected + sent) / 1000
        yield size, {"start to healthy, s": start, "a user's first message, s": first, "daemon's memory, MB": memory}


async def connections(where: Path, sizes: Sequence[int], effort: Effort) -> AsyncGenerator[tuple[int, Values], None]:
    """Megabytes of both processes with so many connected, and milliseconds until one more is let in."""
    owner, *users = (Identity.from_secret(secrets.token_bytes(32)) for _ in range(max(sizes) + 1))
    named = [(f"user-{number}", user) for number, user in enumerate(users)]
    (room,) = await prepare(where / "unibus", owner, named, 1)
    wires: list[Wire] = []
    async with daemon(where, "--max-nats-connections", str(max(sizes) + AT_ONCE)) as (url, data):
        port = await nats_port(url)
        try:
            for size in sizes:
                while len(wires) < size:
                    some = users[len(wires) : min(size, len(wires) + AT_ONCE)]
                    wires += await asyncio.gather(*(connect(port, user.signing, []) for user in some))
                more = [await connect(port, owner.signing, [room]) for _ in range(effort.times)]
                for wire in more:
                    wire.close()
                yield (
                    size,
                    {
                        "one more is let in, ms": median(wire.seconds for wire in more) * 1000,
                        "daemon's memory, MB": resident(daemon_process(data)) / MEGABYTE,
                        "nats-server's memory, MB": resident(nats_server(data)) / MEGABYTE,
                    },
                )
        finally:
            for wire in wires:
                wire.close()


async def message_size(where: Path, sizes: Sequence[int], effort: Effort) -> AsyncGenerator[tuple[int, Values], None]:
    """Acknowledged messages a second of one client, beside nats-py's in the clear, as it comes."""
    async with stage(where) as built:
        for size in sizes:
            body = urandom(size)
            room, _ = await built.room(f"messages of {size}")
            unibus, plain = publish.unibus(room, body, effort.seconds), publish.nats_py(built.plain, body)
            turns = [(*await unibus(), await plain(WINDOW, effort.seconds)) for _ in range(effort.times)]
            ours, theirs = map(median, zip(*turns, strict=True))
            yield size, {"unibus": ours, "nats-py, in the clear, without sync": theirs}


async def _median(measure: Callable[[], Awaitable[Sample]], effort: Effort) -> float:
    return median([(await measure())[0] for _ in range(effort.times)])


PLOTS: Mapping[str, tuple[Measure, Sequence[int], str, str, str]] = {
    "members": (
        members_in_a_room,
        (10, 100, 1_000, 10_000),
        "A removal from a room, and a newcomer who opens it, by the room's members",
        "members of the room",
        "seconds",
    ),
    "rooms": (
        rooms_of_a_user,
        (10, 100, 1_000, 10_000),
        "From nothing to a message stored, by the user's rooms",
        "rooms that the user is in",
        "seconds",
    ),
    "records": (
        records_in_a_bus,
        (1_000, 10_000, 100_000, 1_000_000),
        "A bus's start, its first message and its memory, by its records",
        "records on the bus",
        "seconds, megabytes",
    ),
    "connections": (
        connections,
        (10, 100, 1_000, 5_000),
        "A node's memory, and how long one more waits, by connections",
        "users who are connected",
        "milliseconds, megabytes",
    ),
    "sizes": (
        message_size,
        (16, 128, 1_024, 4_096, 32_768),
        "Acknowledged messages of one client, by their size",
        "bytes of a message",
        "messages a second",
    ),
}


async def plot(name: str, where: Path, sizes: Sequence[int] = (), effort: Effort = Effort()) -> str:
    """Measure and draw the plot called `name`, at other `sizes` than its own if they are given."""
    measure, own, title, x, y = PLOTS[name]
    lines: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    async with aclosing(measure(fresh(where / name), sizes or own, effort)) as measured:
        async for size, values in measured:
            said = ", ".join(f"{key} {value:.3g}" for key, value in values.items())
            print(f"{title}: {size:,}: {said}", file=sys.stderr)
            for key, value in values.items():
                lines[key].append((size, value))
    return draw(Chart(title, x, y, lines))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--only", "names", multiple=True, type=click.Choice([*PLOTS]), help="this one; may be repeated")
def main(directory: Path, names: tuple[str, ...]) -> None:
    """Measure how costs grow, and write one SVG file a question into DIRECTORY. Takes some minutes."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    directory.mkdir(parents=True, exist_ok=True)
    for name in names or PLOTS:
        with tempfile.TemporaryDirectory(prefix="unibus-plots-") as where:
            (directory / f"{name}.svg").write_text(uvloop.run(plot(name, Path(where))))


if __name__ == "__main__":
    main()
