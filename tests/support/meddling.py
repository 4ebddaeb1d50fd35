"""A proxy before nats-server that reads what a client publishes, and loses or refuses some of its frames."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from tests.support.proxies import Proxy

Fate = Literal["pass", "lose", "refuse"]


class Meddler:
    """Decides about each frame that a client publishes: `fate` is told how many came before it, and gives its fate.

    A frame that is refused is answered as nats-server does when no stream is there to take it.
    """

    def __init__(self, target: int, fate: Callable[[int], Fate]) -> None:
        self._target = target
        self._fate = fate
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.frames = 0
        self.port = 0

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End it with all its connections."""
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports that were aborted let go of their sockets in the loop's next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            behind, to = await asyncio.open_connection("127.0.0.1", self._target)
            back = asyncio.create_task(_pass(behind, writer))
            try:
                await self._meddle(reader, to, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                pass  # one of the two has gone
            finally:
                back.cancel()
                await asyncio.gather(back, return_exceptions=True)
                to.transport.abort()
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _meddle(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        inboxes: list[tuple[str, str]] = []
        while True:
            line = await reader.readuntil(b"\r\n")
            words = line.decode().split()
            body = b""
            if words[0] in {"PUB", "HPUB"}:
                body = await reader.readexactly(int(words[-1]) + 2)
            elif words[0] == "SUB":
                inboxes.append((words[1], words[-1]))
            if words[0] == "HPUB" and ".msg." in words[1]:
                fate = self._fate(self.frames)
                self.frames += 1
                if fate == "refuse":
                    await asyncio.sleep(0)
                    client.write(_no_responders(words[2], inboxes))
                if fate != "pass":
                    continue
            to.write(line + body)
            await to.drain()


def _no_responders(reply: str, inboxes: list[tuple[str, str]]) -> bytes:
    (sid,) = [sid for subject, sid in inboxes if reply.startswith(subject.partition("*")[0]) and "*" in subject]
    return f"HMSG {reply} {sid} 16 16\r\nNATS/1.0 503\r\n\r\n\r\n".encode()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.transport.abort()


@asynccontextmanager
async def meddled(http_port: int, nats_port: int, fate: Callable[[int], Fate]) -> AsyncIterator[tuple[str, Meddler]]:
    """The URL of a node whose bus is a `Meddler` before the one on these ports."""
    meddler = Meddler(nats_port, fate)
    await meddler.start()
    http = Proxy(http_port, b'"nats_port":%d' % meddler.port)
    await http.start()
    try:
        yield f"http://127.0.0.1:{http.port}", meddler
    finally:
        await http.close()
        await meddler.close()
