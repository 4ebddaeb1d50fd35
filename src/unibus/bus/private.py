"""A nats-server for one purpose, on the machine alone: to make a stream out of a backup before anybody can reach it.

It listens on loopback, and nobody but this process holds a key that it knows.
"""

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from structlog.typing import FilteringBoundLogger

from unibus.bus import binary, snapshot
from unibus.bus.child import Child
from unibus.bus.keys import BusKeys
from unibus.bus.links import Links
from unibus.bus.options import BusOptions
from unibus.errors import BusUnavailable
from unibus.services.ports import StreamState

READY_WITHIN = 30.0
STOP_GRACE = 60.0
"""Seconds; all that was taken in is written out meanwhile."""


async def restore_stream(
    options: BusOptions, path: Path, state: StreamState, random: Callable[[int], bytes], log: FilteringBoundLogger
) -> None:
    """Make the stream in the file `path` the one that a bus with `options` begins with.

    Nothing is synced to disk here: the caller does that once, with all the rest. Raises BackupInvalid, BusUnavailable,
    StartRefused, OSError.
    """
    program = binary.find(options.binary)
    await binary.check(program)
    keys = BusKeys.generate(random)
    for directory in (options.run_dir, options.store_dir):
        directory.mkdir(mode=0o700)
    config = options.run_dir / "restore.conf"
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(_render(options, keys))
    async with AsyncExitStack() as stack:
        child = await Child.start(program, config, log)
        stack.push_async_callback(child.stop, STOP_GRACE)
        try:
            async with asyncio.timeout(READY_WITHIN):
                port = await child.port(options.run_dir)
                links = await Links.connect(f"nats://127.0.0.1:{port}", keys, log)
        except TimeoutError as error:
            raise BusUnavailable(f"nats-server was not ready within {READY_WITHIN:.0f} s") from error
        stack.push_async_callback(links.close)
        await snapshot.load(links, path, state, options.max_payload)


def _render(options: BusOptions, keys: BusKeys) -> str:
    return json.dumps(
        {
            "server_name": options.node,
            "host": "127.0.0.1",
            "port": -1,
            "ports_file_dir": str(options.run_dir),
            "logtime": False,
            "max_payload": options.max_payload,
            "jetstream": {"store_dir": str(options.store_dir)},
            "system_account": "SYS",
            "accounts": {
                "SYS": {"users": [{"nkey": keys.system.public}]},
                "AUTH": {"users": [{"nkey": keys.auth.public}]},
                "CORE": {"jetstream": "enabled", "users": [{"nkey": keys.core.public}]},
            },
        }
    )
