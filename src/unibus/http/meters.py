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


class Count:
    """How often something happened under one combination of labels' values: `number`."""

    __slots__ = ("number",)

    def __init__(self) -> None:
        self.number = 0


class Counter:
    """How often something happened, apart for each combination of values that its `labels` have."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._counts: dict[tuple[str, ...], Count] = {} if labels else {(): Count()}

    def at(self, *values: str) -> Count:
        """What is counted under the labels' `values`: to be kept, if there is much to count."""
        found = self._counts.get(values)
        if found is None:
            found = self._counts[values] = Count()
        return found

    def inc(self, *values: str) -> None:
        """Count once more, under the labels' `values`."""
        self.at(*values).number += 1

    def count(self, *values: str) -> int:
        """How often that was."""
        return self._counts[values].number if values in self._counts else 0

    def family(self) -> "Metric":
        """See `Meter.family`."""
        from prometheus_client.metrics_core import CounterMetricFamily

        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, count in self._counts.items():
            family.add_metric(values, count.number)
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


class Times:
    """How often something took how many seconds under one value of a label: one number for each of `bounds` and one."""

    __slots__ = ("_bounds", "numbers", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.numbers = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """It took so long once more."""
        self.numbers[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds


class Histogram:
    """How many seconds something took, apart for each value of `label`. `bounds` rise: each bucket's upper one."""

    def __init__(self, name: str, text: str, label: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._label = label
        self._bounds = [float(bound) for bound in bounds]
        self._times: dict[str, Times] = {}

    def at(self, value: str) -> Times:
        """What is observed under the label's `value`: to be kept, if there is much to observe."""
        found = self._times.get(value)
        if found is None:
            found = self._times[value] = Times(self._bounds)
        return found

    def family(self) -> "Metric":
        """See `Meter.family`."""
        from prometheus_client.metrics_core import HistogramMetricFamily

        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        for value, times in self._times.items():
            within = zip([*map(str, self._bounds), "+Inf"], map(float, accumulate(times.numbers)), strict=True)
            family.add_metric([value], list(within), times.sum)
        return family
