"""Nodes in this process and daemons in their own, each on free ports and in a directory of its own, all ended after."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.daemon import Daemon, spawn
from tests.support.people import Place
from tests.support.processes import nats_servers, no_nats_server
from unibus.daemon.node import Node
from unibus.daemon.options import Options

StartNode = Callable[..., Awaitable[Node]]
StartDaemon = Callable[..., Awaitable[Daemon]]


def options(data_dir: Path, bus_auth: str = "enforce") -> Options:
    """What the daemon would be told, on free ports."""
    return Options(
        http_host="127.0.0.1",
        http_port=0,
        nats_host="127.0.0.1",
        nats_port=0,
        data_dir=data_dir,
        bus_auth=bus_auth,
        nats_server=None,
        node_name="here",
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The data directory, which no daemon has made yet."""
    return tmp_path / "data"


@pytest.fixture
async def start_node(data_dir: Path) -> AsyncIterator[StartNode]:
    """Starts a node in this process; `bus_auth` may be given."""
    async with AsyncExitStack() as ending:

        async def start(bus_auth: str = "enforce") -> Node:
            return await ending.enter_async_context(Node(options(data_dir, bus_auth)))

        yield start
    assert nats_servers(data_dir) == []


@pytest.fixture
async def start_daemon(data_dir: Path) -> AsyncIterator[StartDaemon]:
    """Starts a daemon process; flags may be given. Those that still run at the end are killed."""
    started: list[Daemon] = []

    async def start(*flags: str) -> Daemon:
        daemon = Daemon(await spawn(data_dir, *flags), data_dir)
        started.append(daemon)
        await daemon.ready()
        return daemon

    yield start
    for daemon in started:
        if daemon.process.returncode is None:
            await daemon.kill()
    if started:
        await no_nats_server(data_dir)


@pytest.fixture
async def node(start_node: StartNode, data_dir: Path) -> tuple[Node, Place]:
    """A node in this process, and where it serves."""
    node = await start_node()
    return node, Place(f"http://127.0.0.1:{node.http_port}", data_dir)


@pytest.fixture(params=["node", "process"])
async def place(
    request: pytest.FixtureRequest, start_node: StartNode, start_daemon: StartDaemon, data_dir: Path
) -> Place:
    """Where a node serves: one in this process, then a daemon of its own."""
    if request.param == "process":
        return Place((await start_daemon()).url, data_dir)
    return Place(f"http://127.0.0.1:{(await start_node()).http_port}", data_dir)
