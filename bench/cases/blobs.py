"""A large file into a room and out of it again, beside the same bytes through an aiohttp server that keeps a file."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import aiohttp

from bench import promises
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.processes import forget_peak, peak
from bench.programs import Bare, daemon_process
from bench.stage import Stage
from unibus.client.room import Room

MEGABYTE = 1e6
BLOCK = 2**20


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case."""
    source, target = stage.directory / "source", stage.directory / "target"
    await asyncio.to_thread(_fill, source, plan.blob_bytes)
    room, reading = await stage.room("blobs")
    async with aiohttp.ClientSession() as session:
        yield Case(
            (
                Metric("blob, up", "MB/s"),
                Metric("blob, down", "MB/s"),
                Metric("blob, server's memory at most", "MB", "<= 200"),
            ),
            (
                Side("unibus", promises.UNIBUS_BLOB, lambda: _unibus(stage, room, reading, source, target)),
                Side(
                    "bare aiohttp",
                    promises.BARE_BLOB,
                    lambda: _bare(session, stage.bare, source, target),
                    (">= 0.7", ">= 0.7"),
                ),
            ),
        )


def _fill(path: Path, size: int) -> None:
    block = os.urandom(BLOCK)  # each begins with its number: nothing is stored once for all
    with path.open("wb") as file:
        for number in range(max(1, size // BLOCK)):
            file.write(number.to_bytes(8, "big") + block[8:])


def _sample(source: Path, target: Path, seconds: tuple[float, float], memory: int) -> Sample:
    size = source.stat().st_size
    assert target.stat().st_size == size
    target.unlink()
    return size / seconds[0] / MEGABYTE, size / seconds[1] / MEGABYTE, memory / MEGABYTE


async def _unibus(stage: Stage, room: Room, reading: Room, source: Path, target: Path) -> Sample:
    server = daemon_process(stage.data)
    forget_peak(server)
    begin = time.perf_counter()
    blob = await room.put_blob(source, "large")
    stored = time.perf_counter()
    await reading.get_blob(blob, target)
    fetched = time.perf_counter()
    sample = _sample(source, target, (stored - begin, fetched - stored), peak(server))
    await room.delete_blob(blob)
    return sample


async def _bare(session: aiohttp.ClientSession, bare: Bare, source: Path, target: Path) -> Sample:
    url = f"http://127.0.0.1:{bare.port}/blob"
    forget_peak(bare.pid)
    begin = time.perf_counter()
    with source.open("rb") as file:
        async with session.put(url, data=file) as answer:
            answer.raise_for_status()
    stored = time.perf_counter()
    async with session.get(url) as answer:
        with target.open("wb") as file:
            async for part in answer.content.iter_any():
                file.write(part)
    fetched = time.perf_counter()
    return _sample(source, target, (stored - begin, fetched - stored), peak(bare.pid))
