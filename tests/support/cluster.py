"""A real cluster: daemons as processes, with TLS everywhere, started, stopped, killed, frozen and wiped one by one.

They listen where `LocalNode` says: on free ports of this machine, or in network namespaces of a test's own. All are
ended after the test, with their nats-servers.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.builders import identity
from tests.support.daemon import Daemon
from tests.support.processes import nats_servers, no_nats_server
from unibus import Bus, connect
from unibus.client.founding import found_bus
from unibus.client.health import fetch_health
from unibus.client.trust import make_context
from unibus.cluster.local import LocalNode, authority, data_dir, environment, prepare
from unibus.cluster.ports import free_ports
from unibus.errors import UnibusError
from unibus.model.subjects import STREAM

WAIT = 40.0  # seconds in which a cluster recovers from anything
_LOOK = 0.05
Health = Mapping[str, Any]
LEADERS: Mapping[str, Callable[[Health], object]] = {
    "records": lambda told: told["store"].get("leader"),
    "messages": lambda told: (told["cluster"]["streams"].get(STREAM) or {}).get("leader"),
    "cluster": lambda told: told["cluster"]["leader"],
}
"""Each part of a cluster has a leader of its own, often on different nodes."""


class ClusterNode:
    """One node, running or not. `before` is a command that its daemon is started through, such as one that enters a
    network namespace; `variables` are what its daemon is told beside the usual; `lives` are all its daemons so far."""

    def __init__(self, base: Path, nodes: Sequence[LocalNode], place: LocalNode) -> None:
        self.name, self.url, self.place = place.name, place.url, place
        self.data_dir = data_dir(base, place)
        self.variables: dict[str, str] = {**environment(base, nodes, place), "UNIBUS_RATE_PER_USER": "0"}
        self.before: tuple[str, ...] = ()
        self.daemon: Daemon | None = None
        self.lives: list[Daemon] = []
        self._tls = make_context(authority(base))

    async def spawn(self, *flags: str) -> Daemon:
        """Start its process, and return at once."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("UNIBUS_")}
        process = await asyncio.create_subprocess_exec(
            *(*self.before, sys.executable, "-m", "unibus.daemon", *flags),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=own | self.variables,
        )
        self.daemon = Daemon(process, self.data_dir)
        self.lives.append(self.daemon)
        return self.daemon

    async def start(self) -> None:
        """Start it, and return once it listens. That it has joined the others is another matter."""
        await (await self.spawn()).ready()

    @property
    def running(self) -> Daemon:
        """Its process."""
        assert self.daemon is not None, f"{self.name} was not started"
        return self.daemon

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        return await self.running.stop()

    async def kill(self) -> None:
        """`kill -9` of the daemon; its nats-server is gone when this returns, too."""
        await self.running.kill()
        await no_nats_server(self.data_dir)

    def send(self, number: signal.Signals, *, child: bool = True) -> None:
        """Send a signal to the daemon and, with `child`, to its nats-server."""
        for pid in [self.running.process.pid, *(nats_servers(self.data_dir) if child else [])]:
            os.kill(pid, number)

    def kill_child(self) -> None:
        """`kill -9` of its nats-server only."""
        (pid,) = nats_servers(self.data_dir)
        os.kill(pid, signal.SIGKILL)

    def wipe(self) -> None:
        """Remove all that it has kept."""
        shutil.rmtree(self.data_dir)

    async def end(self) -> None:
        """Be over, whatever state it is in."""
        if self.daemon is not None and self.daemon.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGCONT)
            await self.kill()

    async def health(self, seconds: float = 5.0) -> Health:
        """What it says of itself. Raises UnibusError when it says nothing."""
        return await fetch_health(self.url, seconds, self._tls)


class Cluster:
    """The nodes, and whoever comes onto their bus. `ca` is what clients trust."""

    def __init__(self, base: Path, places: Sequence[LocalNode]) -> None:
        prepare(base, places, now=time.time(), random=os.urandom)
        self.base, self.ca = base, authority(base)
        self.nodes = [ClusterNode(base, places, place) for place in places]
        self.spent = ""

    def __getitem__(self, name: str) -> ClusterNode:
        return next(node for node in self.nodes if node.name == name)

    @property
    def tls(self) -> ssl.SSLContext:
        return make_context(self.ca)

    def urls(self, *first: str) -> str:
        """The addresses of all nodes, those called `first` before the others."""
        names = [*first, *(node.name for node in self.nodes if node.name not in first)]
        return ",".join(self[name].url for name in names)

    def others(self, *names: str) -> list[ClusterNode]:
        """All nodes but those."""
        return [node for node in self.nodes if node.name not in names]

    async def start(self) -> None:
        """Start all nodes, and return once they are well."""
        await asyncio.gather(*(node.start() for node in self.nodes))
        await self.well()

    async def until(
        self, holds: Callable[[Health], bool], nodes: Iterable[ClusterNode] | None = None, within: float = WAIT
    ) -> dict[str, Health]:
        """What the nodes (all, unless some are named) say of themselves, once `holds` of each."""
        wanted = list(self.nodes if nodes is None else nodes)
        told: dict[str, Health | str] = {}
        try:
            async with asyncio.timeout(within):
                while True:
                    for node in wanted:
                        try:
                            told[node.name] = await node.health()
                        except UnibusError as error:
                            told[node.name] = error.message
                    found = {name: one for name, one in told.items() if isinstance(one, Mapping) and holds(one)}
                    if len(found) == len(wanted):
                        return found
                    await asyncio.sleep(_LOOK)
        except TimeoutError:
            said = {
                name: (one["reasons"], (one["cluster"] or {}).get("streams")) if isinstance(one, Mapping) else one
                for name, one in told.items()
            }
            raise AssertionError(f"not within {within:g} s: {said}") from None

    async def well(self, within: float = WAIT, *names: str) -> dict[str, Health]:
        """Return once all nodes, or those named, say that they are well."""
        nodes = [self[name] for name in names] if names else None
        return await self.until(lambda told: told["status"] == "ok", nodes, within)

    async def leader(self, of: str = "records") -> ClusterNode:
        """The node that leads the records, or what else `LEADERS` names, as the first to know says."""
        async with asyncio.timeout(WAIT):
            while True:
                for node in self.nodes:
                    with contextlib.suppress(UnibusError):
                        found = LEADERS[of](await node.health())
                        if isinstance(found, str):
                            return self[found]
                await asyncio.sleep(_LOOK)

    def token(self, name: str) -> Path:
        """Where a node's bootstrap token is, if it is."""
        return self[name].data_dir / "bootstrap-token"

    async def found(self, *others: str, at: str = "n1") -> None:
        """Make the bus by the token of a node, with ada as its admin and `others` as users."""
        await found_bus(self[at].url, identity("ada"), self.token(at).read_text().strip(), "ada", tls=self.tls)
        async with self.enter("ada", at) as ada:
            for name in others:
                await ada.admit(name, identity(name).card())

    @asynccontextmanager
    async def enter(self, name: str, *first: str, only: bool = False, state: Path | None = None) -> AsyncIterator[Bus]:
        """Connect as `name`, to the nodes called `first` before the others, or to those `only`."""
        url = ",".join(self[node].url for node in first) if only else self.urls(*first)
        async with connect(url, identity(name), ca=self.ca, state=state) as bus:
            yield bus


def free_places(count: int = 3) -> list[LocalNode]:
    """Nodes on ports of this machine that nobody listens on now."""
    ports = free_ports(3 * count)
    triples = zip(ports[:count], ports[count : 2 * count], ports[2 * count :], strict=True)
    return [LocalNode(f"n{number}", http, nats, route) for number, (http, nats, route) in enumerate(triples, 1)]


@asynccontextmanager
async def cluster(base: Path, places: Sequence[LocalNode] | None = None) -> AsyncIterator[Cluster]:
    """A cluster in `base`, none of whose nodes has started; all are ended in the end."""
    made = Cluster(base, places or free_places())
    try:
        yield made
    finally:
        for node in made.nodes:  # those that a test has put in, too
            await node.end()
