"""A server with a herd on it (`bench.herd`), which can be killed under them and started again."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench import herd
from bench.herd import Up
from bench.processes import resident
from bench.programs import running

MEGABYTE = 1e6
COME_SECONDS = 300.0

Start = Callable[[], AbstractAsyncContextManager[Sequence[int]]]
"""Starts a server; gives its processes, of which the first is to be killed: the others end with it."""


class Herded:
    """Made by `herded`; `said` is what the herd says."""

    def __init__(self, start: Start, count: int, said: asyncio.StreamReader) -> None:
        self._start = start
        self._count = count
        self._said = said
        self._running = AsyncExitStack()
        self._processes: Sequence[int] = ()

    async def start(self) -> None:
        """Start the server."""
        self._processes = await self._running.enter_async_context(self._start())

    async def end(self) -> None:
        """End it."""
        await self._running.aclose()

    def memory(self, *numbers: int) -> float:
        """What these of its processes have in memory, in megabytes."""
        return sum(resident(self._processes[number]) for number in numbers) / MEGABYTE

    async def restart(self) -> tuple[float, Up]:
        """Kill the server, start it again, wait until all are back; gives when it was killed, too."""
        killed = time.monotonic()
        os.kill(self._processes[0], signal.SIGKILL)
        await self.end()
        await self.start()
        return killed, await self.all_up(killed)

    async def all_up(self, since: float) -> Up:
        """Wait until all have come since then, by `time.monotonic`. Raises ConnectionError if they have ended."""
        async for line in self._said:
            up = Up(**json.loads(line.removeprefix(b"up ")))
            if up.count == self._count and up.first >= since:
                return up
        raise ConnectionError("those who were connected have ended: see herd.log")


@asynccontextmanager
async def herded(start: Start, kind: str, port: int, count: int, secret: bytes, errors: Path) -> AsyncIterator[Herded]:
    """A server on `port` with its herd, all of which are connected. Raises StartRefused, OSError."""
    arguments = [sys.executable, "-m", herd.__name__, kind, str(port), str(count), secret.hex()]
    async with running(arguments, errors) as process:
        assert process.stdout is not None
        made = Herded(start, count, process.stdout)
        try:
            await made.start()
            async with asyncio.timeout(COME_SECONDS):
                await made.all_up(0.0)
            yield made
        finally:
            await made.end()
