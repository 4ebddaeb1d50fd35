"""How much is measured. Every number here only bounds the time a run takes; none changes what is compared."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of one run. `rounds` are counted, one more before them is thrown away; times are in seconds."""

    rounds: int
    publish_seconds: float
    receive_bytes: int
    """How much is read in one round: as many messages as fit, `receive_most` at most."""
    receive_most: int
    latency_messages: int
    requests: int
    windows: tuple[int, ...]
    """How many unacknowledged messages nats-py may have; the fastest is found before it is measured."""


DEFAULT = Plan(5, 1.0, 64 * 2**20, 100_000, 400, 5_000, (256, 1_000, 4_000))
QUICK = Plan(3, 0.4, 24 * 2**20, 40_000, 150, 2_000, (256, 1_000))
