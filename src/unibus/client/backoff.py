"""How long to wait before the next try: growing, bounded, and different for every client: no storm builds up."""

import random
from collections.abc import Callable, Generator

PASSING = frozenset({429, 503, 504})
"""HTTP statuses of errors that may pass by themselves."""


def delays(
    first: float = 0.1, cap: float = 5.0, spread: Callable[[float, float], float] = random.uniform
) -> Generator[float, None, None]:
    """Seconds to wait before each next try: between half and all of 0.1, 0.2, 0.4 … up to `cap`."""
    top = first
    while True:
        yield spread(top / 2, top)
        top = min(cap, top * 2)
