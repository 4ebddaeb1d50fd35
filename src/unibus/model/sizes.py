"""Sizes as people write them: 64K, 500M, 10G. Pure text; what a size is for is never known here."""

import re

from unibus.errors import InvalidInput

_SIZE = re.compile(r"([0-9]{1,12})([KMGT]?)")


def parse_size(text: str) -> int:
    """The bytes in a size such as 500M or 10g; K, M, G and T are powers of 1024. Raises InvalidInput."""
    found = _SIZE.fullmatch(text.upper())
    if found is None:
        raise InvalidInput(f"a size is a number and K, M, G or T, such as 500M or 10G, not {text!r}")
    return int(found[1]) << 10 * " KMGT".index(found[2] or " ")
