"""The meters beside those of Prometheus' own client library, which count the same."""

import random

import prometheus_client
from prometheus_client.parser import text_string_to_metric_families

from unibus.http.meters import Counter, Gauge, Histogram, exposition

HOSTILE = 'a"b\\c\nd} 1.0\n# TYPE x gauge\nx'
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    """All samples but those that say when a meter was made."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_it_shows_what_the_library_would_have_counted() -> None:
    registry = prometheus_client.CollectorRegistry()
    bounds = (0.001, 0.5, 1, 30)
    theirs = prometheus_client.Counter("requests", "answered", ["route", "status"], registry=registry)
    times = prometheus_client.Histogram("seconds", "taken", ["route"], buckets=bounds, registry=registry)
    level = prometheus_client.Gauge("level", "now", registry=registry)
    alone = prometheus_client.Counter("alone", "without labels", registry=registry)
    ours = Counter("requests", "answered", "route", "status")
    own_times = Histogram("seconds", "taken", "route", bounds)
    own_level, own_alone = Gauge("level", "now"), Counter("alone", "without labels")
    numbers = random.Random(7)  # noqa: S311 - the same each time
    alone.inc()
    own_alone.inc()
    for _ in range(500):
        route, status = numbers.choice(["/a", "/b", HOSTILE]), numbers.choice(["200", "404"])
        seconds = numbers.choice([0.0, 0.001, 0.0011, 0.5, 1, 1.5, 30, 31, numbers.random()])
        theirs.labels(route, status).inc()
        ours.inc(route, status)
        times.labels(route).observe(seconds)
        own_times.at(route).observe(seconds)
        level.set(seconds - 1)
        own_level.set(seconds - 1)
    text = exposition([ours, own_times, own_level, own_alone]).text.decode()
    assert parsed(text) == parsed(prometheus_client.generate_latest(registry).decode())
    assert ours.count("/a", "200") == parsed(text)["requests_total", (("route", "/a"), ("status", "200"))]


def test_what_a_label_says_cannot_become_a_line() -> None:
    meter = Counter("requests", HOSTILE, "route")
    meter.inc(HOSTILE)
    lines = exposition([meter]).text.decode().splitlines()
    assert len(lines) == 3
    assert parsed("\n".join(lines) + "\n") == {("requests_total", (("route", HOSTILE),)): 1.0}


def test_a_gauge_is_read_when_somebody_asks() -> None:
    values = iter([1.0, 2.5])
    gauge = Gauge("level", "now", lambda: next(values))
    for value in (1.0, 2.5):
        assert parsed(exposition([gauge]).text.decode()) == {("level", ()): value}
