"""Line charts as SVG text. Pure: series in, text out; the same series always give the same file.

Both axes are logarithmic, because what is plotted grows by factors: a flat line costs nothing more. Between the decades
are faint lines at 2 to 9 times. Readable on light and on dark paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 60, 50
GRID, FAINT = "#b6bec8", "#eaeef2"
COLOURS = ("#0969da", "#cf222e", "#1a7f37", "#9a6700")

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Chart:
    """`series` are points by name, all positive; `x` and `y` name the axes with their units."""

    title: str
    x: str
    y: str
    series: Mapping[str, Points]


@dataclass(frozen=True, slots=True)
class _Axis:
    """From decade `low` to decade `high`, drawn from pixel `start` to pixel `end`."""

    low: int
    high: int
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (log10(value) - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        return [10.0**decade for decade in range(self.low, self.high + 1)]

    @property
    def between(self) -> list[float]:
        return [times * 10.0**decade for decade in range(self.low, self.high) for times in range(2, 10)]


def _axis(values: Sequence[float], start: float, end: float) -> _Axis:
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    return _Axis(low, max(high, low + 1), start, end)


def short(value: float) -> str:
    """A power of ten as a short text: 0.001, 1, 1k, 10M."""
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:g}{letter}"
    return f"{value:g}"


def draw(chart: Chart) -> str:
    """The chart as one SVG document."""
    points = [point for line in chart.series.values() for point in line]
    across = _axis([x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = _axis([y for _, y in points], HEIGHT - BOTTOM, TOP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 22, chart.title, size=15),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, chart.x, anchor="middle"),
        _text(16, (TOP + HEIGHT - BOTTOM) / 2, chart.y, anchor="middle", turned=True),
    ]
    lines += [_line(across.at(value), TOP, across.at(value), HEIGHT - BOTTOM, FAINT) for value in across.between]
    lines += [_line(LEFT, up.at(value), WIDTH - RIGHT, up.at(value), FAINT) for value in up.between]
    for tick in across.ticks:
        x = across.at(tick)
        lines += [_line(x, TOP, x, HEIGHT - BOTTOM), _text(x, HEIGHT - BOTTOM + 18, short(tick), anchor="middle")]
    for tick in up.ticks:
        y = up.at(tick)
        lines += [_line(LEFT, y, WIDTH - RIGHT, y), _text(LEFT - 8, y + 4, short(tick), anchor="end")]
    for number, (name, series) in enumerate(chart.series.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(across.at(x), up.at(y)) for x, y in series]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        left = LEFT + number * (WIDTH - LEFT - RIGHT) / len(chart.series)
        lines.append(f'<rect x="{left:.1f}" y="34" width="12" height="12" fill="{colour}"/>')
        lines.append(_text(left + 18, 44, name))
    return "\n".join([*lines, "</svg>", ""])


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = GRID) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", turned: bool = False) -> str:
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="#1f2328"{turn}>{escape(text, quote=False)}</text>'
