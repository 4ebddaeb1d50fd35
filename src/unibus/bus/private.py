"""A nats-server for one purpose, on the machine alone: to make a stream out of a backup before anybody can reach it, or
to read what a daemon has left that does not run.

It listens on loopback, and nobody but this process holds a key that it knows.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from nats.aio.client import Client
from structlog.typing import FilteringBoundLogger

from unibus.bus import binary, snapshot
from unibus.bus.child import Child
from unibus.bus.keys import BusKeys
from unibus.bus.links import Links, dial_core
from unibus.bus.options import BusOptions
from unibus.errors import BackupInvalid, BusUnavailable
from unibus.services.ports import StreamState

READY_WITHIN = 30.0
STOP_GRACE = 60.0
"""Seconds; all that was taken in is written out meanwhile."""


class Private:
    """Such a server, while it runs. Methods raise BusUnavailable."""

    def __init__(self, links: Links, address: str, keys: BusKeys, log: FilteringBoundLogger) -> None:
        self._address = address
        self._keys = keys
        self._log = log
        self.links = links

    async def dial(self) -> Client:
        """A new connection to the account that has JetStream, for the caller to close."""
        return await dial_core(self._address, self._keys, self._log, None)

    async def save(self, path: Path) -> StreamState:
        """Write the stream to the new file `path`. Raises OSError too, BackupInvalid when there is no stream."""
        if await snapshot.held(self.links) is None:
            raise BackupInvalid("there is no stream of messages in its data directory")
        return await snapshot.save(self.links, path)


@asynccontextmanager
async def private_server(
    options: BusOptions, run_dir: Path, random: Callable[[int], bytes], log: FilteringBoundLogger
) -> AsyncIterator[Private]:
    """A server over the messages of a bus with `options`; its configuration is in `run_dir`, which is made.

    Nothing is synced to disk here. Raises BusUnavailable, StartRefused, OSError.
    """
    program = binary.find(options.binary)
    await binary.check(program)
    keys = BusKeys.generate(random)
    await asyncio.to_thread(run_dir.mkdir, mode=0o700)
    config = run_dir / "private.conf"
    with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(_render(options, run_dir, keys))
    async with AsyncExitStack() as stack:
        child = await Child.start(program, config, log)
        stack.push_async_callback(child.stop, STOP_GRACE)
        try:
            async with asyncio.timeout(READY_WITHIN):
                address = f"nats://127.0.0.1:{await child.port(run_dir)}"
                links = await Links.connect(address, keys, log)
        except TimeoutError as error:
            raise BusUnavailable(f"nats-server was not ready within {READY_WITHIN:.0f} s") from error
        stack.push_async_callback(links.close)
        yield Private(links, address, keys, log)


async def restore_stream(
    options: BusOptions, path: Path, state: StreamState, random: Callable[[int], bytes], log: FilteringBoundLogger
) -> None:
    """Make the stream in the file `path` the one that a bus with `options` begins with.

    Nothing is synced to disk here: the caller does that once, with all the rest. Raises BackupInvalid, BusUnavailable,
    StartRefused, OSError.
    """
    options.store_dir.mkdir(mode=0o700)
    async with private_server(options, options.run_dir, random, log) as server:
        await snapshot.load(server.links, path, state, options.max_payload)


def _render(options: BusOptions, run_dir: Path, keys: BusKeys) -> str:
    return json.dumps(
        {
            "server_name": options.node,
            "host": "127.0.0.1",
            "port": -1,
            "ports_file_dir": str(run_dir),
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
