"""When a client's memory is written: at once after a rest, so that nothing is acted on that could be forgotten; under
load once in a while, because every write waits for the disk.

What a process that is killed has not written yet is `PAUSE` seconds at most. Decides nothing about what is remembered.
"""

import asyncio
import logging

from unibus.client.memory import Memory
from unibus.errors import UnibusError

PAUSE = 1.0  # seconds between two writes

log = logging.getLogger("unibus.client")


class Keeper:
    """Writes `memory`. Must be made where an event loop runs."""

    def __init__(self, memory: Memory, pause: float = PAUSE) -> None:
        self.memory = memory
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        self._written = self._loop.time() - pause
        self._later: asyncio.TimerHandle | None = None

    def shown(self) -> None:
        """More frames were shown. Raises KeyCustody when that cannot be written."""
        self.memory.shown()
        if self._later is not None:
            return
        rest = self._written + self._pause - self._loop.time()
        if rest > 0:
            self._later = self._loop.call_later(rest, self._write)
            return
        self.memory.save()
        self._written = self._loop.time()

    def close(self) -> None:
        """Write what is not written yet. Safe to call twice."""
        if self._later is not None:
            self._later.cancel()
            self._write()

    def _write(self) -> None:
        self._later = None
        self._written = self._loop.time()
        try:
            self.memory.save()
        except UnibusError as error:  # whoever reads on hears of it with the next frame
            log.warning("what was read is not remembered: %s", error.message)
