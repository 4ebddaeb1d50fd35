"""A writer in a process of its own, to be stopped or killed: `python -m tests.store.kv_child PORT REPLICA BUCKET R`."""

import asyncio
import sys
from functools import partial
from pathlib import Path

from tests.store.kv_servers import connect, quiet
from unibus.errors import StorageUnavailable
from unibus.store.kv import KvStore
from unibus.store.port import Append

LARGE = 64 * 1024 * 1024
"""Bytes of the entry that it writes: many parts."""


async def durable() -> bool:
    return True


async def main(port: int, replica: Path, bucket: str, replicas: int) -> None:
    """Write one large entry, as number 2 of `log`, and say what became of it."""
    store = await KvStore.open(
        replica,
        partial(connect, port),
        node="child",
        replicas=replicas,
        log=quiet(),
        clock=lambda: 0.0,
        beat=lambda: b"",
        durable=durable,
        bucket=bucket,
    )
    await store.wait_current()
    try:
        await store.append(Append("log", 2, b"c" * LARGE))
        print("written", flush=True)  # noqa: T201 - this is how it speaks to the test
    except StorageUnavailable as error:
        print(error.message, flush=True)  # noqa: T201 - the same
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
