"""Counting what arrives at many receivers in one process, and knowing when all of it has."""

import asyncio


class Arrivals:
    """Counts what arrives anywhere; `all_in` is set when `expected` have."""

    def __init__(self) -> None:
        self.expected = 0
        self.all_in = asyncio.Event()
        self._count = 0

    def expect(self, count: int) -> None:
        """Count anew, up to `count`."""
        self.expected, self._count = count, 0
        self.all_in.clear()

    def one(self) -> None:
        """Something arrived."""
        self._count += 1
        if self._count == self.expected:
            self.all_in.set()
