"""Real nats-servers for the KV engine's tests, one alone or a cluster on loopback, and stores on them.

Servers end with the test that wanted them, also when that is killed.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import nats.errors
import structlog
from nats.aio.client import Client

from unibus.bus import binary, launch
from unibus.cluster.ports import free_ports
from unibus.crypto.encoding import dump_json
from unibus.store.kv import LEASE, KvStore, boottime

WAIT = 20.0


@dataclass
class Server:
    """One nats-server and its directory."""

    name: str
    directory: Path
    port: int
    monitor: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        command: Sequence[str | Path] = (
            *(sys.executable, "-I", "-S", launch.__file__, str(os.getpid())),
            *(binary.find(None), "-c", self.directory / "nats.conf"),
        )
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env={}, start_new_session=True)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that ends the server is waited for."""
        assert self.process is not None
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait()

    async def dial(self) -> Client:
        """A connection that does not come back when it breaks."""
        return await connect(self.port)

    async def durable(self) -> bool:
        """Whether the server syncs before it acknowledges, read back from it."""

        def ask() -> bool:
            with urlopen(f"http://127.0.0.1:{self.monitor}/varz") as answer:
                return bool(json.load(answer)["jetstream"]["config"]["sync_always"])

        return await asyncio.to_thread(ask)


async def connect(port: int) -> Client:
    client = Client()

    async def ignore(_error: Exception) -> None:
        pass

    try:
        await client.connect(
            f"nats://127.0.0.1:{port}",
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=2,
            error_cb=ignore,
        )
    except BaseException:
        await client.close()
        raise
    return client


@contextmanager
def running(base: Path, count: int) -> Iterator[list[Server]]:
    """`count` servers, as one cluster if there are several. What is stopped is ended, too."""
    ports, monitors, routes = (free_ports(count) for _ in range(3))
    servers = [Server(f"n{number}", base / f"n{number}", ports[number], monitors[number]) for number in range(count)]
    for server, route in zip(servers, routes, strict=True):
        server.directory.mkdir(parents=True)
        settings: dict[str, object] = {
            "server_name": server.name,
            "host": "127.0.0.1",
            "port": server.port,
            "http": f"127.0.0.1:{server.monitor}",
            "jetstream": {"store_dir": str(server.directory / "js"), "sync_interval": "always"},
        }
        if count > 1:
            urls = [f"nats://127.0.0.1:{port}" for port in routes]
            settings["cluster"] = {"name": "test", "host": "127.0.0.1", "port": route, "routes": urls}
        (server.directory / "nats.conf").write_text(json.dumps(settings))
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            if server.process is not None:
                server.process.kill()
                server.process.wait()


async def jetstream(server: Server, call: str, body: object = None) -> dict[str, Any]:
    """What JetStream answers to `call`, asked again while it has no leader."""
    async with asyncio.timeout(WAIT):
        while True:
            try:
                client = await server.dial()
            except (OSError, nats.errors.Error):
                await asyncio.sleep(0.05)
                continue
            try:
                with contextlib.suppress(nats.errors.Error):
                    reply = await client.request(f"$JS.API.{call}", b"" if body is None else dump_json(body), timeout=2)
                    found: dict[str, Any] = json.loads(reply.data)
                    if found.get("error", {}).get("code") != 503:
                        return found
            finally:
                await client.close()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def node(
    server: Server,
    replica: Path,
    bucket: str,
    *,
    name: str | None = None,
    replicas: int = 1,
    lease: float = LEASE,
    log: structlog.typing.FilteringBoundLogger | None = None,
    monotonic: Callable[[], float] = boottime,
    current: bool = True,
    dial: Callable[[], Awaitable[Client]] | None = None,
) -> AsyncIterator[KvStore]:
    """A store on `server`, current unless that is not waited for; `dial` connects to it in the test's own way."""
    store = await KvStore.open(
        replica,
        dial or server.dial,
        node=name or server.name,
        replicas=replicas,
        log=log or quiet(),
        clock=time.time,
        beat=lambda: b"beat of " + server.name.encode(),
        durable=server.durable,
        lease=lease,
        bucket=bucket,
        monotonic=monotonic,
    )
    try:
        if current:
            async with asyncio.timeout(WAIT):
                await store.wait_current()
        yield store
    finally:
        await store.close()


def quiet() -> structlog.typing.FilteringBoundLogger:
    """A log that keeps nothing."""
    made: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(), [_drop], wrapper_class=structlog.make_filtering_bound_logger(0)
    )
    return made


def _drop(_logger: object, _level: str, _event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    raise structlog.DropEvent
