"""How long to wait before the server is started again. Pure: the past and a random number in, seconds out."""

from dataclasses import dataclass, replace

FIRST = 0.1
LONGEST = 5.0
STABLE = 30.0
"""Seconds; a life that lasted `STABLE` makes what came before it forgotten."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """`failures` counts the lives in a row that ended before they were stable."""

    failures: int = 0

    def after(self, lived: float) -> "Backoff":
        """What is known after a life of `lived` seconds has ended."""
        return replace(self, failures=1 if lived >= STABLE else self.failures + 1)

    def wait(self, jitter: float) -> float:
        """Seconds to wait now: doubled each time up to a cap; `jitter` in [0, 1) takes up to half of it away."""
        whole = min(LONGEST, FIRST * 2.0 ** min(self.failures - 1, 30)) if self.failures else 0.0
        return whole * (1.0 - jitter / 2.0)
