"""What the tests of external servers stand on: the printed block, ways to spoil it, and a bus on a server with it."""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.bus.stage import Logbook, Stage, TablePolicy
from tests.support.nats_server import NatsServer, nats_server
from unibus.bus import config
from unibus.bus.external_config import render
from unibus.bus.keys import BusKeys
from unibus.bus.options import BusAuth, BusOptions, External
from unibus.bus.plane import BusPlane

MAX_PAYLOAD = 1 << 20
Block = dict[str, Any]


def jetstream(home: Path, sync: str = "always") -> str:
    """The operator's own part."""
    return f'jetstream {{ store_dir: "{home}/js", sync_interval: {sync} }}\n'


def printed(home: Path, keys: BusKeys, sync: str = "always") -> str:
    """A configuration with what is printed for `keys`."""
    return jetstream(home, sync) + render(keys, MAX_PAYLOAD)


def spoilt(home: Path, keys: BusKeys, spoil: Callable[[Block], object]) -> str:
    """The same with something changed in it."""
    block: Block = json.loads(json.dumps(config.access(keys)))
    block |= {"max_payload": MAX_PAYLOAD, "max_control_line": config.MAX_CONTROL_LINE}
    spoil(block)
    return jetstream(home) + "".join(f"{name}: {json.dumps(value)}\n" for name, value in block.items())


def make_plane(
    tmp_path: Path,
    server: NatsServer,
    keys: BusKeys,
    policy: TablePolicy,
    log: Logbook,
    mode: BusAuth = BusAuth.ENFORCE,
    **more: Any,
) -> BusPlane:
    """A bus on that server, not started."""
    external = External("127.0.0.1", server.port, keys, **more)
    return BusPlane(BusOptions(tmp_path, mode=mode, external=external), policy, log.logger)


@asynccontextmanager
async def external_stage(
    tmp_path: Path, keys: BusKeys | None = None, sync: str = "always", **more: Any
) -> AsyncIterator[tuple[Stage, NatsServer]]:
    """A bus that runs on a server that runs."""
    keys, policy, log = keys or BusKeys.generate(os.urandom), TablePolicy(), Logbook()
    home = tmp_path / "operator"
    async with nats_server(home, printed(home, keys, sync)) as server:
        plane = make_plane(tmp_path, server, keys, policy, log, **more)
        await plane.start()
        try:
            yield Stage(plane, policy, log), server
        finally:
            await plane.stop()
