"""Counters, gauges and histograms of one node, and what Prometheus' own client library makes of them.

The library writes the text and is loaded when `/metrics` is first asked for: a node that nobody watches does without
it, and until then a meter is a few numbers. Belongs to one event loop: nothing here is locked. Must never be given a
label whose values strangers choose: each is kept for good.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


class Meter(Protocol):
    """What `exposition` shows."""

    def family(self) -> "Metric":
        """The meter as it stands now, as the library has it."""


class Exposition(NamedTuple):
    """What Prometheus is answered, and its media type."""

    text: bytes
    content_type: str


def exposition(meters: Iterable[Meter]) -> Exposition:
    """All `meters` in Prometheus' text format."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Now(Collector):
        def collect(self) -> "Iterable[Metric]":
            return [meter.family() for meter in meters]

    registry = CollectorRegistry()
    registry.register(Now())
    return Exposition(generate_latest(registry), CONTENT_TYPE_LATEST)


class Counter:
    """How often something happened, apart for each combination of values that its `labels` have."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = {} if labels else {(): 0}

    def inc(self, *values: str) -> None:
        """Count once more, under the labels' `values`."""
        self._counts[values] = self._counts.get(values, 0) + 1

    def count(self, *values: str) -> int:
        """How often that was."""
        return self._counts.get(values, 0)

    def family(self) -> "Metric":
        """See `Meter.family`."""
        from prometheus_client.metrics_core import CounterMetricFamily

        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, number in self._counts.items():
            family.add_metric(values, number)
        return family


class Gauge:
    """A number that goes up and down: the one that was `set` last, or what `read` gives when somebody asks."""

    def __init__(self, name: str, text: str, read: Callable[[], float] | None = None) -> None:
        self._name = name
        self._text = text
        self._read = read
        self._value = 0.0

    def set(self, value: float) -> None:
        """The number is `value` from now on."""
        self._value = value

    def family(self) -> "Metric":
        """See `Meter.family`."""
        from prometheus_client.metrics_core import GaugeMetricFamily

        return GaugeMetricFamily(self._name, self._text, value=self._value if self._read is None else self._read())


class Histogram:
    """How many seconds something took, apart for each value of `label`. `bounds` rise: each bucket's upper one."""

    def __init__(self, name: str, text: str, label: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._label = label
        self._bounds = [float(bound) for bound in bounds]
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}

    def observe(self, seconds: float, value: str) -> None:
        """It took so long, under the label's `value`."""
        if value not in self._counts:
            self._counts[value], self._sums[value] = [0] * (len(self._bounds) + 1), 0.0
        self._counts[value][bisect_left(self._bounds, seconds)] += 1
        self._sums[value] += seconds

    def family(self) -> "Metric":
        """See `Meter.family`."""
        from prometheus_client.metrics_core import HistogramMetricFamily

        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        for value, counts in self._counts.items():
            within = zip([*map(str, self._bounds), "+Inf"], map(float, accumulate(counts)), strict=True)
            family.add_metric([value], list(within), self._sums[value])
        return family
