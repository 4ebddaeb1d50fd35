"""How much one node takes of everybody on its HTTP side: the flags, in a section of their own in `--help`.

Clients rely on the protocol's sizes and times, so a node may take more and be more patient, never less. Rates, and how
many connect, are each operator's.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from unibus.errors import InvalidInput, StartRefused
from unibus.http.limits import Limits
from unibus.model.sizes import parse_size

F = TypeVar("F", bound=Callable[..., Any])
_LIMITS = Limits()
_LARGEST = 1 << 30  # bytes of one user that are held in memory
_LONGEST = 3600.0  # seconds that somebody silent is borne with
_FIELDS = {
    "rate_per_user": "rate_per_user",
    "appends_per_user": "appends_per_user",
    "rate_per_address": "rate_per_address",
    "max_connections": "connections",
    "max_record_body": "record_body",
    "max_sealed_body": "sealed_body",
    "max_held_bodies": "held_bodies",
    "body_seconds": "body_seconds",
    "request_seconds": "request_seconds",
    "idle_seconds": "idle_seconds",
    "max_headers": "headers",
    "max_header_size": "header",
    "max_target_size": "target",
}
"""The limit that a flag sets; all others are the same on every node."""


class Size(click.ParamType[int]):
    """A size such as 500M, not below `least`, on which clients rely, and not above `most`; in bytes."""

    name = "size"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bytes; click calls this also with a default."""
        try:
            size = parse_size(str(value))
        except InvalidInput as error:
            self.fail(error.message, param, ctx)
        if not self._least <= size <= self._most:
            self.fail(f"clients rely on {self._least} bytes, and more than {self._most} are too many", param, ctx)
        return size


def limits(given: dict[str, Any]) -> Limits:
    """The limits behind the flags that were given, by their names as parameters. Raises StartRefused."""
    found = Limits(**{_FIELDS[name]: value for name, value in given.items()})
    if found.held_bodies < found.sealed_body:
        raise StartRefused("--max-held-bodies takes at least --max-sealed-body, or nobody could send one")
    return found


class Sectioned(click.Command):
    """A command whose help shows the limits apart from what every operator should read."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both sections."""
        rows: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
        for param in self.get_params(ctx):
            if (row := param.get_help_record(ctx)) is not None:
                rows[param.name in _FIELDS].append(row)
        for title, is_limit in (("Options", False), ("Limits", True)):
            with formatter.section(title):
                formatter.write_dl(rows[is_limit])


def _flag(name: str, kind: click.ParamType[Any], text: str, default: str | None = None) -> Callable[[F], F]:
    """The flag of one limit; `default` writes it as people do, where that is not the plain number."""
    field = _FIELDS[name.removeprefix("--").replace("-", "_")]
    return click.option(name, default=default or getattr(_LIMITS, field), type=kind, help=text)


_ANY, _SOME = click.IntRange(min=0), click.IntRange(min=1)
FLAGS: tuple[Callable[..., Any], ...] = (
    _flag("--rate-per-user", _ANY, "HTTP requests a second of one user; ten times as many at once; 0: any number"),
    _flag("--appends-per-user", _ANY, "records a second that one user appends; two thousand at once; 0: any number"),
    _flag("--rate-per-address", _ANY, "the same for one address, loopback excepted; 0 behind a proxy on another host"),
    _flag("--max-connections", _SOME, "HTTP connections at once"),
    _flag("--max-record-body", Size(_LIMITS.record_body, _LARGEST), "body of a request with a record", "128K"),
    _flag(
        "--max-sealed-body",
        Size(_LIMITS.sealed_body, _LARGEST),
        "body of a request with a record and sealed keys",
        "32M",
    ),
    _flag(
        "--max-held-bodies",
        Size(_LIMITS.held_bodies, _LARGEST),
        "bodies of one user on their way at once, parts of blobs apart",
        "64M",
    ),
    _flag(
        "--body-seconds",
        click.FloatRange(_LIMITS.body_seconds, _LONGEST),
        "for a body to arrive; large ones have more",
    ),
    _flag(
        "--request-seconds",
        click.FloatRange(_LIMITS.request_seconds, _LONGEST),
        "from headers to answer, where no blob is moved",
    ),
    _flag(
        "--idle-seconds",
        click.FloatRange(_LIMITS.idle_seconds, _LONGEST),
        "for a connection's next headers to arrive",
    ),
    _flag("--max-headers", click.IntRange(_LIMITS.headers, 1000), "headers of a request"),
    _flag("--max-header-size", Size(_LIMITS.header, 1 << 20), "each header's name or value", "8K"),
    _flag("--max-target-size", Size(_LIMITS.target, 1 << 20), "a request's address without scheme and host", "4K"),
)
