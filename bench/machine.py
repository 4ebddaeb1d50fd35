"""What the numbers were measured on: they mean nothing without it."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median

from unibus.bus import binary

SYNCS = 50


async def describe(directory: Path) -> dict[str, object]:
    """Facts about this machine, the versions in use, and how long the disk under `directory` takes to sync."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "unibus": version("unibus"),
        "nats-server": await binary.check(binary.find(None)),
        "nats-py": version("nats-py"),
        "aiohttp": version("aiohttp"),
        "fsync": f"{sync_seconds(directory) * 1000:.2f} ms",
    }


def sync_seconds(directory: Path) -> float:
    """The median time in seconds that the disk takes to make 4 KiB durable."""
    taken = []
    with (directory / "sync").open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            file.write(bytes(4096))
            begin = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begin)
    return median(taken)
