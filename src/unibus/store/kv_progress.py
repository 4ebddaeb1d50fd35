"""How far this node's replica has come, who waits for that, and until when it counts as current.

A write that the cluster acknowledged after it had begun at time T, and that the replica has reached, proves that the
replica held at T all that was acknowledged before T. Times are seconds of one clock that no one sets; nothing here
reads a clock. Must never take a write for a proof before the replica has reached it.
"""

import asyncio
import heapq
import itertools


class Progress:
    """`lease` is how many seconds a proof holds."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._proven: float | None = None
        self._proofs: list[tuple[int, float]] = []
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._ids = itertools.count()
        self._changed = asyncio.Event()
        self.applied = 0

    def current(self, now: float) -> bool:
        """Whether a proof holds now."""
        return self._proven is not None and now - self._proven <= self._lease

    def proven_since(self, moment: float) -> bool:
        """Whether a proof began after `moment`."""
        return self._proven is not None and self._proven > moment

    def acknowledged(self, sequence: int, began: float) -> None:
        """A write that began at `began` was acknowledged with `sequence`."""
        if sequence <= self.applied:
            self._prove(began)
        else:
            heapq.heappush(self._proofs, (sequence, began))

    def advance(self, applied: int) -> None:
        """The replica has everything up to `applied`."""
        self.applied = applied
        while self._proofs and self._proofs[0][0] <= applied:
            self._prove(heapq.heappop(self._proofs)[1])
        while self._waiting and self._waiting[0][0] <= applied:
            future = heapq.heappop(self._waiting)[2]
            if not future.done():
                future.set_result(None)

    def restart(self, applied: int) -> None:
        """The replica goes on from `applied`, and numbers seen before may be another stream's."""
        self._proofs.clear()
        self.advance(applied)

    def void(self) -> None:
        """The replica is not what was proven: start over."""
        self._proven = None
        self._proofs.clear()
        self._tell()

    async def reach(self, sequence: int) -> None:
        """Return once the replica has everything up to `sequence`."""
        if sequence > self.applied:
            future = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (sequence, next(self._ids), future))
            await future

    async def proof(self) -> None:
        """Return at the next proof, or when there is none any more."""
        await self._changed.wait()

    def _prove(self, began: float) -> None:
        self._proven = began if self._proven is None else max(self._proven, began)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
