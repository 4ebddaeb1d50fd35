"""Measuring sides in turn: A B A B, so that whatever else the machine does meanwhile meets all of them.

Ratios are taken within a round, between neighbours in time, and only then summarized. Never judges a speed: a slow
machine is no error.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

ROUND_SECONDS = 30.0  # for one side's one round, after which something hangs

Sample = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a sample. `goal` is what unibus should reach whatever its references do, in words."""

    name: str
    unit: str
    goal: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """One way of doing it: what it promises who uses it, and one measured round, which gives a number a metric.

    `goals` say what unibus, divided by this, should reach: one for each metric, or fewer.
    """

    name: str
    promises: str
    measure: Callable[[], Awaitable[Sample]]
    goals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """A question: unibus, which is the first side, and what it is measured against, if there is anything like it.

    What takes long may have its own number of `rounds`, with no other before them, and more `seconds` for a round.
    """

    metrics: tuple[Metric, ...]
    sides: tuple[Side, ...]
    rounds: int | None = None
    seconds: float = ROUND_SECONDS


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Row:
    """One side's result in one metric. `ratio` is unibus divided by this side; None for unibus itself.

    `goal` is what the ratio should reach, or the value where there is no ratio.
    """

    metric: Metric
    side: str
    promises: str
    value: Spread
    ratio: Spread | None
    goal: str


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of `values`."""
    return Spread(median(values), min(values), max(values))


def rows(case: Case, samples: Sequence[Sequence[Sample]]) -> list[Row]:
    """The results of `case`, of which `samples` has one sample a side in each round."""
    made = []
    for index, metric in enumerate(case.metrics):
        for number, side in enumerate(case.sides):
            values = spread([taken[number][index] for taken in samples])
            ratio, goal = None, metric.goal
            if number:
                ratio = spread([taken[0][index] / taken[number][index] for taken in samples])
                goal = side.goals[index] if index < len(side.goals) else ""
            made.append(Row(metric, side.name, side.promises, values, ratio, goal))
    return made


async def in_turn(case: Case, rounds: int) -> list[list[Sample]]:
    """One sample a side in each of `rounds`, after one round that is thrown away. Raises TimeoutError, saying where.

    A case with a number of its own has that many instead, and throws none away.
    """
    samples = []
    for _ in range(rounds + 1 if case.rounds is None else case.rounds):
        taken = []
        for side in case.sides:
            try:
                async with asyncio.timeout(case.seconds):
                    taken.append(await side.measure())
            except TimeoutError as error:
                where = f"{case.metrics[0].name}, {side.name}"
                raise TimeoutError(f"{where}: one round took more than {case.seconds:.0f} s") from error
        samples.append(taken)
    return samples[1:] if case.rounds is None else samples


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of `values` lie, by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
