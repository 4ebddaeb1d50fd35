"""Which part of a thing that never changes a GET asks for: conditions and ranges (RFC 9110 sections 13 and 14). Pure.

Of the Range header only one range of bytes is served. Everything else that it may say is ignored, as the RFC allows,
and the whole is sent: ranges that overlap or are very many are an attack on the sender.
"""

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_TAG = re.compile(r'(?:W/)?("[^"]*")')


@dataclass(frozen=True, slots=True)
class Slice:
    """Send the bytes from `start` up to, and without, `stop`; `partial` says that it was asked for by a range."""

    start: int
    stop: int
    partial: bool


class NotModified:
    """The asker has it: 304."""


class Unsatisfiable:
    """The range lies outside: 416."""


def choose(
    size: int, etag: str, *, wanted: str | None, if_none_match: str | None, if_range: str | None
) -> Slice | NotModified | Unsatisfiable:
    """What to answer for `size` bytes with the strong `etag`, in its quotes. A header is None where it is absent."""
    if if_none_match is not None and (if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)):
        return NotModified()
    whole = Slice(0, size, partial=False)
    if wanted is None or if_range not in {None, etag}:
        return whole
    found = _RANGE.fullmatch(wanted)
    if found is None or found.group(1, 2) == ("", ""):
        return whole
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return whole
    return Slice(start, stop, partial=True) if start < stop else Unsatisfiable()
