"""Real nats-servers with JetStream, one or a cluster of three, for tests that keep blobs in them."""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import nats.errors
from nats.aio.client import Client

from unibus.bus import binary
from unibus.cluster.ports import free_ports
from unibus.errors import StorageUnavailable

WAIT = 30.0


@dataclass
class Server:
    """One nats-server, which keeps its ports when it is started again."""

    name: str
    home: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binary.find(None), "-c", self.home / "conf"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """`kill -9`, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self, stop: bool) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP if stop else signal.SIGCONT)


@contextmanager
def servers(home: Path, count: int, jetstream: str = "") -> Iterator[list[Server]]:
    """`count` of them, a cluster if there is more than one; killed at the end."""
    ports = free_ports(2 * count)
    routes = json.dumps([f"nats://127.0.0.1:{port}" for port in ports[count:]])
    made = []
    for number in range(count):
        server = Server(f"n{number}", home / f"n{number}", ports[number])
        server.home.mkdir(parents=True)
        cluster = f'cluster {{ name: blobs, listen: "127.0.0.1:{ports[count + number]}", routes: {routes} }}'
        (server.home / "conf").write_text(
            f'server_name: {server.name}\nlisten: "127.0.0.1:{server.port}"\n'
            f'jetstream {{ store_dir: "{server.home}/js", sync_interval: always{jetstream} }}\n'
            + (cluster if count > 1 else "")
        )
        made.append(server)
    try:
        for server in made:
            server.start()
        yield made
    finally:
        for server in made:
            server.kill()


@dataclass
class Dial:
    """A node's way to its server: called, it gives the connection that there is, as the store wants it."""

    server: Server
    client: Client | None = field(default=None)

    def __call__(self) -> Client:
        if self.client is None or not self.client.is_connected:
            raise StorageUnavailable("this node has no connection to its nats-server")
        return self.client

    async def connect(self) -> None:
        """Connect, within WAIT seconds, however often it is refused."""
        await self.close()
        async with asyncio.timeout(WAIT):
            while True:
                client = Client()
                try:
                    await client.connect(
                        f"nats://127.0.0.1:{self.server.port}",
                        allow_reconnect=False,
                        max_reconnect_attempts=1,
                        reconnect_time_wait=0,
                        error_cb=_ignore,
                    )
                except (OSError, nats.errors.Error):
                    await client.close()
                    await asyncio.sleep(0.05)  # it is starting
                else:
                    self.client = client
                    return

    async def ready(self) -> None:
        """Return once JetStream makes a stream with as many replicas as there are to be had."""
        async with asyncio.timeout(WAIT):
            while "error" in await self.api("INFO"):  # noqa: ASYNC110 - another process's doing, which sends no event
                await asyncio.sleep(0.05)

    async def api(self, call: str, body: object = None) -> dict[str, object]:
        """JetStream's answer, an error too."""
        data = b"" if body is None else json.dumps(body).encode()
        try:
            answer = json.loads((await self().request(f"$JS.API.{call}", data, timeout=5)).data)
        except nats.errors.Error as error:
            return {"error": repr(error)}
        assert isinstance(answer, dict)
        return answer

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()
            self.client = None


class DyingDial:
    """A node's connection that is gone for good after so many uses: as if the node had died at that step."""

    def __init__(self, dial: Dial, uses: int) -> None:
        self._dial = dial
        self.uses = uses

    def __call__(self) -> Client:
        self.uses -= 1
        if self.uses < 0:
            raise StorageUnavailable("this node is dead")
        return self._dial()


@asynccontextmanager
async def dialled(server: Server) -> AsyncIterator[Dial]:
    """A connection to a server whose JetStream is ready, closed in the end."""
    dial = Dial(server)
    try:
        await dial.connect()
        await dial.ready()
        yield dial
    finally:
        await dial.close()


async def _ignore(_error: Exception) -> None:
    """A connection that breaks is what these tests are about; who uses it is told."""
