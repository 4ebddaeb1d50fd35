"""A node of its own for each client to see, of which there is but one behind: real TCP proxies that cut and swallow."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum

from unibus.cluster.ports import free_ports

SIP = 4096  # bytes that a slow proxy passes on at once
_PLACE = re.compile(rb'"nats_port":[0-9]{5}\b')


class State(Enum):
    """OPEN passes everything on; CUT refuses and ends connections; MUTE takes and gives nothing; LOSING takes only."""

    OPEN = 1
    CUT = 2
    MUTE = 3
    LOSING = 4


class Proxy:
    """Listens on a port of its own for what listens on `target`. `rewrite` changes what goes back to the client.

    `up` and `down` are the bytes a second that it lets through from a client and to it; None is as many as there are.
    """

    def __init__(
        self, target: int, rewrite: bytes | None = None, *, up: float | None = None, down: float | None = None
    ) -> None:
        self._target = target
        self._rewrite = rewrite
        self._up, self._down = up, down
        self._state = State.OPEN
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened = asyncio.Event()
        self._opened.set()
        (self.port,) = free_ports(1)
        self.taken = asyncio.Event()
        """Set when something was taken from a client in any state."""
        self.carried = self.connections = 0
        """Bytes taken from clients, and how often one connected."""

    async def start(self) -> None:
        """Listen, on the same port each time."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def become(self, state: State) -> None:
        """Go into `state`. What is open stays, unless it is cut."""
        self._state = state
        self.taken.clear()
        if state is State.MUTE:
            self._opened.clear()
        else:
            self._opened.set()
        if state is State.CUT:
            await self.close()
        elif self._server is None:
            await self.start()

    async def close(self) -> None:
        """End it with all its connections."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._opened.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            behind, to = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(to)
            try:
                await asyncio.gather(self._pass(reader, to, back=False), self._pass(behind, writer, back=True))
            finally:
                self._writers.discard(to)
                to.transport.abort()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, back: bool) -> None:
        rate = self._down if back else self._up
        while data := await reader.read(1 << 16 if rate is None else SIP):
            if not back:
                self.taken.set()
                self.carried += len(data)
            if rate is not None:
                await asyncio.sleep(len(data) / rate)
                if writer.transport.is_closing():
                    break
            await self._opened.wait()
            if back and self._state is State.LOSING:
                break
            if back and self._rewrite is not None:
                data = _PLACE.sub(self._rewrite, data)
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


class ProxiedNode:
    """What a client takes for a node: a control plane and the NATS plane that it names."""

    def __init__(self, http: Proxy, nats: Proxy) -> None:
        self.http = http
        self.nats = nats

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.port}"

    async def become(self, state: State) -> None:
        """Have both planes go into `state`."""
        await self.nats.become(state)
        await self.http.become(state)


@asynccontextmanager
async def proxied(
    http_port: int, nats_port: int, count: int, *, up: float | None = None, down: float | None = None
) -> AsyncIterator[list[ProxiedNode]]:
    """`count` nodes before the daemon on these ports; `up` and `down` slow the way to nats-server and back."""
    async with AsyncExitStack() as ending:
        nodes = []
        for _ in range(count):
            nats = Proxy(nats_port, up=up, down=down)
            await nats.start()
            ending.push_async_callback(nats.close)
            http = Proxy(http_port, b'"nats_port":%d' % nats.port)
            await http.start()
            ending.push_async_callback(http.close)
            assert len(str(nats.port)) == len(str(nats_port)) == 5
            nodes.append(ProxiedNode(http, nats))
        yield nodes
