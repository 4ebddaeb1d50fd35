"""What a person waits for, and what a node costs that does nothing: starting, `unibus --help`, memory and time idle."""

import asyncio
import sys
import sysconfig
import time
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from pathlib import Path

from bench import promises
from bench.harness import Case, Metric, Sample, Side
from bench.plan import Plan
from bench.processes import busy, resident
from bench.programs import daemon, daemon_process, fresh, healthy, nats_child, nats_server
from bench.stage import Stage

MEGABYTE = 1e6
IDLE_ROUNDS = 2
LEAST = 1e-5  # of a core; less cannot be told from nothing, by which nothing can be divided


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """Three cases."""
    where = fresh(stage.directory / "starts")
    numbers = count()
    yield Case(
        (Metric("empty directory to healthy", "s", "<= 1"),),
        (
            Side("unibus", promises.UNIBUS_START, lambda: _started(where / str(next(numbers)))),
            Side("nats-server alone", promises.NATS_START, lambda: _nats_started(where / str(next(numbers)))),
        ),
    )
    command = [sys.executable, str(Path(sysconfig.get_path("scripts")) / "unibus"), "--help"]
    yield Case(
        (Metric("unibus --help", "ms", "<= 150"),),
        (
            Side("unibus", promises.HELP, lambda: _ran(command)),
            Side("import click", promises.CLICK, lambda: _ran([sys.executable, "-c", "import click"])),
        ),
    )
    idle = fresh(where / "idle")
    async with daemon(idle) as (_, data), nats_child(idle / "alone", {"jetstream": {"store_dir": str(idle)}}) as alone:
        both = daemon_process(data), nats_server(data)
        yield Case(
            (Metric("idle, memory", "MB", "<= 80"), Metric("idle, of one core", "%", "<= 0.5")),
            (
                Side("unibus and its nats-server", promises.IDLE, lambda: _idle(both, plan.idle_seconds)),
                Side("nats-server alone", promises.IDLE, lambda: _idle([alone.pid], plan.idle_seconds)),
            ),
            rounds=IDLE_ROUNDS,
        )


async def _started(where: Path) -> Sample:
    begin = time.perf_counter()
    async with daemon(fresh(where)) as (url, _):
        await healthy(f"{url}/healthz")
        return (time.perf_counter() - begin,)


async def _nats_started(where: Path) -> Sample:
    begin = time.perf_counter()
    async with nats_child(where, {"jetstream": {"store_dir": str(where)}}) as server:
        await healthy(f"http://127.0.0.1:{server.monitor}/healthz")
        return (time.perf_counter() - begin,)


async def _ran(command: Sequence[str]) -> Sample:
    begin = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL, env={})
    if await process.wait() != 0:
        raise OSError(f"{command[-1]} failed")
    return ((time.perf_counter() - begin) * 1000,)


async def _idle(processes: Sequence[int], seconds: float) -> Sample:
    before = sum(busy(pid) for pid in processes)
    begin = time.perf_counter()
    await asyncio.sleep(seconds)
    spent = (sum(busy(pid) for pid in processes) - before) / (time.perf_counter() - begin)
    return sum(resident(pid) for pid in processes) / MEGABYTE, max(spent, LEAST) * 100
