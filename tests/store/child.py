"""A process of its own for the durability tests: `child.py write|fill|race PATH`. Never imported."""

import asyncio
import json
import os
import resource
import sys
from pathlib import Path

from unibus.errors import StorageUnavailable
from unibus.store.port import Append, PositionTaken
from unibus.store.sqlite import SqliteStore

WRITERS = 8


def say(**facts: object) -> None:
    print(json.dumps(facts), flush=True)  # noqa: T201 - this is how it speaks to the test


async def write(path: Path) -> None:
    """Append to several logs for ever, and say so after each append and each claim that was acknowledged."""
    store = await SqliteStore.open(path)

    async def one(log: str) -> None:
        last = await store.last(log)
        position = last.position if last else 0
        while True:
            position += 1
            value = b"%d" % position
            await store.append(
                Append(log, position, value * 50, {"a": value}, {f"{log}/last": value}),
                Append("trail", None, f"{log} {position}".encode()),
            )
            say(log=log, position=position)
            if await store.claim(f"{log} {position}", 100):
                say(claim=f"{log} {position}")

    await asyncio.gather(*(one(f"log{n}") for n in range(WRITERS)))


async def fill(path: Path) -> None:
    """Let the disk run out of room by a limit on the size of files, and come back."""
    store = await SqliteStore.open(path)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    await store.append(Append("log", 1, b"before"))

    # Room for a few pages and no more: that these still fit must not pass for a disk that takes writes.
    wal = path.with_name(path.name + "-wal")
    large = Append("large", 1, b"x" * 1024 * 1024, {"a": b"x"}, {"large": b"x"})
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 64 * 1024, hard))
    try:
        await store.append(large)
    except StorageUnavailable as error:
        say(tight=error.message, reasons=(await store.posture())["reasons"])

    # Room for small writes, but not for the large one that waits in the same batch.
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 512 * 1024, hard))
    results = await asyncio.gather(
        store.append(large),
        *(store.append(Append(f"small{n}", 1, b"v")) for n in range(5)),
        *(store.claim(f"small{n}", 100) for n in range(5)),
        return_exceptions=True,
    )
    say(crowded=[error.message if isinstance(error, StorageUnavailable) else repr(error) for error in results])

    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    for attempt in (store.append(Append("log", 2, b"full", {"a": b"x"}, {"full": b"x"})), store.claim("full", 100)):
        try:
            await attempt
        except StorageUnavailable as error:
            say(full=error.message)
    say(reasons=(await store.posture())["reasons"], readable=len(await store.entries("log", 0, 10)))

    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    say(reasons=(await store.posture())["reasons"])
    await store.append(Append("log", 2, b"after"))
    say(claimed=await store.claim("full", 100))
    await store.close()


async def race(path: Path) -> None:
    """Add 50 entries to a log that others add to as well, each wherever its end is then."""
    store = await SqliteStore.open(path)
    position = 1
    added = 0
    while added < 50:
        try:
            await store.append(Append("log", position, b"%d" % os.getpid()))
            say(position=position)
            added += 1
        except PositionTaken as taken:
            position = taken.length
        position += 1
    await store.close()


if __name__ == "__main__":
    asyncio.run({"write": write, "fill": fill, "race": race}[sys.argv[1]](Path(sys.argv[2])))
