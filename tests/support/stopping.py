"""A TCP proxy before a node that holds one request, or its answer, and tells: the moment to end one of both sides."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Stopping:
    """Passes all on until a request begins with `line`; of that, `some` bytes pass, or for None all, but no answer.

    `reached` is set then, and nothing passes any more on that connection.
    """

    def __init__(self, target: int, line: bytes, some: int | None) -> None:
        self._target = target
        self._line = line
        self._some = some
        self._tasks: set[asyncio.Task[None]] = set()
        self.reached = asyncio.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        held = asyncio.Event()
        try:
            behind, to = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                await asyncio.gather(self._ask(reader, to, held), self._answer(behind, writer, held))
            finally:
                to.transport.abort()
        except OSError:
            pass  # one side is gone, which is what this is for
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _ask(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, held: asyncio.Event) -> None:
        while data := await reader.read(1 << 16):
            if data.startswith(self._line):
                held.set()
                if self._some is not None:
                    to.write(data[: self._some])
                    await to.drain()
                    self.reached.set()
                    await reader.read()  # until its sender is gone
                    break
            to.write(data)
            await to.drain()
        to.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: asyncio.Event) -> None:
        while data := await reader.read(1 << 16):
            if held.is_set():
                self.reached.set()
                continue
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    async def end(self) -> None:
        """End what is open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def stopping(target: int, line: str, some: int | None) -> AsyncIterator[Stopping]:
    """Such a proxy before what listens on the port `target`."""
    proxy = Stopping(target, line.encode(), some)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.end()
