"""Clusters of three on this one machine whose members can be killed and started again: unibus, and plain nats-server.

Needs no rights that a user does not have. Never measures anything.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.programs import Server, healthy, nats_child
from unibus.cli.local_nodes import LocalNodes, local_nodes
from unibus.cluster.local import LocalNode
from unibus.cluster.ports import free_ports

NODES = 3


@asynccontextmanager
async def three_nodes(base: Path) -> AsyncIterator[LocalNodes]:
    """A cluster of unibus that is well, with its files in `base`. Raises UnibusError."""
    ports = iter(free_ports(3 * NODES))
    nodes = [LocalNode(f"n{number}", *places) for number, places in enumerate(zip(ports, ports, ports, strict=True), 1)]
    async with local_nodes(base, nodes) as made:
        for node in nodes:
            await made.start(node)
        await made.well()
        yield made


class PlainCluster:
    """Three nats-servers that sync before they acknowledge. Made by `plain_cluster`; `servers` are those that run."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._routes = {f"n{number}": port for number, port in enumerate(free_ports(NODES), 1)}
        self._running = {name: AsyncExitStack() for name in self._routes}
        self.servers: dict[str, Server] = {}

    async def start(self) -> None:
        """Start all that do not run, and wait until they are well."""
        for name in self._routes.keys() - self.servers.keys():
            self.servers[name] = await self._running[name].enter_async_context(self._server(name))
        for server in self.servers.values():
            await healthy(f"http://127.0.0.1:{server.monitor}/healthz")

    async def kill(self, name: str) -> None:
        """`kill -9` of one."""
        os.kill(self.servers.pop(name).pid, signal.SIGKILL)
        await self._running[name].aclose()

    async def end(self) -> None:
        """End all."""
        for running in self._running.values():
            await running.aclose()

    @asynccontextmanager
    async def _server(self, name: str) -> AsyncIterator[Server]:
        where = self._base / name
        settings = {
            "server_name": name,
            "jetstream": {"store_dir": str(where), "sync_interval": "always"},
            "cluster": {
                "name": "plain",
                "host": "127.0.0.1",
                "port": self._routes[name],
                "routes": [f"nats://127.0.0.1:{port}" for port in self._routes.values()],
            },
        }
        async with nats_child(where, settings) as server:
            yield server


@asynccontextmanager
async def plain_cluster(base: Path) -> AsyncIterator[PlainCluster]:
    """Three nats-servers that are well, with their files in `base`. Raises StartRefused, BusUnavailable."""
    made = PlainCluster(base)
    try:
        await made.start()
        yield made
    finally:
        await made.end()
