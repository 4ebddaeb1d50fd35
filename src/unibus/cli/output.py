"""How the command line shows things. The rules: short, aligned, lower-case; results on standard output, all else on
standard error; with --json one JSON value a line and nothing else. Text from others never controls the terminal.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence

import click

# JSON itself escapes the C0 controls only. DEL, the C1 controls and format characters are left to `emit`.
_ESCAPED = re.compile(r"[^\x20-\x7e]")


def examples(*lines: str) -> str:
    """The epilog of a command's help: lines to type, which click leaves as they stand."""
    return "\n".join(("\b", "For example:", *(f"  {line}" for line in lines)))


def columns(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows under a head, in aligned columns two blanks apart."""
    table = [tuple(head), *(tuple(printable(cell) for cell in row) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def _width(text: str) -> int:
    """How many places of a terminal `text` takes: two for a character of East Asia, none for an accent of its own."""
    wide = sum(unicodedata.east_asian_width(c) in {"F", "W"} for c in text)
    return len(text) + wide - sum(unicodedata.category(c) in {"Me", "Mn"} for c in text)


def printable(text: str) -> str:
    """`text` with everything that is not plainly printable shown as an escape, such as \\x1b or \\u202e."""
    return "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else ascii(c)[1:-1] for c in text)


def say(text: str) -> None:
    """A line for people, on standard output."""
    click.echo(text)


def note(text: str) -> None:
    """A line beside the result, on standard error."""
    click.echo(text, err=True)


def emit(value: object, *, err: bool = False) -> None:
    """One JSON value on a line, for machines; beside the result with `err`."""
    click.echo(_ESCAPED.sub(_escape, json.dumps(value, ensure_ascii=False, separators=(", ", ": "))), err=err)


def _escape(found: re.Match[str]) -> str:
    c = found[0]
    return c if printable(c) == c else json.dumps(c)[1:-1]
