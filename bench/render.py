"""Results as people read them and as programs read them. Pure: rows in, text or plain values out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from bench.harness import Row, Spread

HEADINGS = ("", "", "median", "lowest – highest", "unibus is", "goal")
Cells = tuple[str, ...]


def number(value: float) -> str:
    """`value` with three digits that mean something."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"


def _range(values: Spread) -> str:
    return f"{number(values.low)} – {number(values.high)}"


def cells(rows: Sequence[Row]) -> list[Cells]:
    """One line of text a row; a metric is named once."""
    lines: list[Cells] = []
    named = ""
    for row in rows:
        name = f"{row.metric.name}, {row.metric.unit}"
        ratio = f"{number(row.ratio.median)} × ({_range(row.ratio)})" if row.ratio is not None else ""
        lines.append(
            ("" if named == name else name, row.side, number(row.value.median), _range(row.value), ratio, row.goal)
        )
        named = name
    return lines


def table(rows: Sequence[Row]) -> str:
    """The results with aligned columns, and below them what each side promises."""
    lines = [HEADINGS, *cells(rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    drawn = [
        "  ".join(
            text.rjust(width) if column in {2, 3} else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([*drawn, "", *promises(rows)])


def promises(rows: Sequence[Row]) -> list[str]:
    """What each side promises, every promise once; a side's settings, in parentheses, do not change it."""
    said = dict.fromkeys((row.side.partition(" (")[0], row.promises) for row in rows)
    width = max((len(side) for side, _ in said), default=0)
    return [f"{side.ljust(width)}  {promise}" for side, promise in said]


def machine_line(machine: Mapping[str, object]) -> str:
    """The machine in one line."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def document(rows: Sequence[Row], machine: Mapping[str, object], seconds: float) -> dict[str, object]:
    """The results as JSON values; `seconds` is how long the whole run took."""
    return {"machine": dict(machine), "seconds": round(seconds, 1), "results": [asdict(row) for row in rows]}
