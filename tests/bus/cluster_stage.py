"""Three buses that are one cluster on loopback, each on a directory of its own, over one table of rights."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from tests.bus.stage import Logbook, Stage, TablePolicy
from tests.support.pki import Authority
from tests.support.processes import nats_servers
from unibus.bus.cluster import Cluster
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane
from unibus.cluster.ports import free_ports
from unibus.daemon.route_tls import RouteCertificates
from unibus.daemon.tls_files import RouteTlsFiles

NAMES = ("one", "two", "three")
SECRET = "0123456789abcdef" * 4
SETTLED = 30.0
"""Seconds that an election may take on a busy machine, and more."""


class ClusterStage:
    """The nodes, by position; one that was never started has no bus yet."""

    def __init__(self, home: Path, stack: AsyncExitStack, *, replicas: int = 3) -> None:
        self._stack = stack
        self.home = home
        self.policy = TablePolicy()
        self.routes = free_ports(len(NAMES))
        self.replicas = replicas
        self.authority = Authority(home / "pki", "routes")
        self.certificates = {name: self._certificate(name) for name in NAMES}
        self.stages: dict[str, Stage] = {}

    def _certificate(self, name: str) -> RouteCertificates:
        chain, key = self.authority.route(name)
        files = RouteTlsFiles(chain, key, self.authority.ca)
        return self._stack.enter_context(RouteCertificates(files, None, Logbook().logger, clock=time.time))

    def renew(self, name: str) -> None:
        """Put a certificate that lasts longer into the files of node `name`."""
        self.authority.route(name, lasts=timedelta(days=180))

    def cluster(self, name: str, secret: str = SECRET) -> Cluster:
        """What node `name` is told."""
        own = NAMES.index(name)
        peers = tuple(("127.0.0.1", port) for number, port in enumerate(self.routes) if number != own)
        return Cluster("trio", "127.0.0.1", self.routes[own], peers, secret, self.replicas, self.certificates[name].bus)

    async def start(self, name: str, secret: str = SECRET) -> Stage:
        """Start node `name`; returns before there need be a quorum."""
        data = self.home / name
        data.mkdir(exist_ok=True)
        log = Logbook()
        options = BusOptions(data, port=0, node=name, cluster=self.cluster(name, secret))
        plane = BusPlane(options, self.policy, log.logger)
        await plane.start()
        self._stack.push_async_callback(plane.stop)
        self.stages[name] = Stage(plane, self.policy, log)
        return self.stages[name]

    async def stop(self, name: str) -> None:
        """Stop node `name`; it can be started again."""
        await self.stages.pop(name).plane.stop()

    async def all_ready(self) -> None:
        """Return once every node that was started serves."""
        await until(lambda: all(ready(stage) for stage in self.stages.values()))

    def pid(self, name: str) -> int:
        """The process number of the server of node `name`."""
        (pid,) = nats_servers(self.home / name)
        return pid

    @property
    def leader(self) -> str:
        """Who leads the cluster, as whoever is ready sees it."""
        for stage in self.stages.values():
            view = stage.plane.status()["cluster"]
            if isinstance(view, dict) and view.get("leader") and stage.plane.status()["ready"]:
                return str(view["leader"])
        raise AssertionError("nobody knows a leader")


async def until(holds: Callable[[], bool], within: float = SETTLED) -> None:
    """Return once `holds` is true; fail if that takes too long."""
    async with asyncio.timeout(within):
        while not holds():  # noqa: ASYNC110 - other processes come to agree, and send no event
            await asyncio.sleep(0.02)


async def until_told(holds: Callable[[], Awaitable[bool]]) -> None:
    """The same for what has to be asked for."""
    async with asyncio.timeout(SETTLED):
        while not await holds():  # noqa: ASYNC110 - asking is all that one can do
            await asyncio.sleep(0.1)


def ready(stage: Stage) -> bool:
    return bool(stage.plane.status()["ready"])


@asynccontextmanager
async def trio(home: Path, *, replicas: int = 3) -> AsyncIterator[ClusterStage]:
    """All three nodes, ready."""
    async with AsyncExitStack() as stack:
        made = ClusterStage(home, stack, replicas=replicas)
        await asyncio.gather(*(made.start(name) for name in NAMES))
        await made.all_ready()
        yield made
