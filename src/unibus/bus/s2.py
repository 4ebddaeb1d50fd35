"""S2, the extension of Snappy in which nats-server writes long entries: a block taken apart. Pure.

Must never believe what a block says of its size or its distances: members choose what is compressed.
"""

_LONGEST = 1 << 26
"""Bytes: more than nats-server lets any message have."""
_REPEATS = {5: (1, 4), 6: (2, 1 << 8), 7: (3, 1 << 16)}
"""How many bytes of length follow for these lengths of a repeat, and what is added to them."""
_FAR = {2: 2, 3: 4}
"""Bytes of the distance, by the kind of a copy."""


def decode(block: bytes) -> bytes:
    """What was compressed into `block`. Raises ValueError for what is no such block."""
    size, at = uvarint(block, 0)
    if size > _LONGEST:
        raise ValueError("an S2 block says that it is too large")
    out = bytearray()
    back = 0
    while at < len(block):
        tag = block[at]
        kind, length = tag & 3, tag >> 2
        at += 1
        if kind == 0:
            if length >= 60:
                length, at = _number(block, at, length - 59)
            out += block[at : at + length + 1]
            at += length + 1
            continue
        if kind == 1:
            near = (tag & 0xE0) << 3 | _number(block, at, 1)[0]
            at += 1
            length &= 7
            if near:
                back = near
            elif length in _REPEATS:
                count, more = _REPEATS[length]
                length, at = _number(block, at, count)
                length += more
            length += 4
        else:
            back, at = _number(block, at, _FAR[kind])
            length += 1
        if not 0 < back <= len(out) or len(out) + length > size:
            raise ValueError("an S2 block copies what is not there")
        start = len(out) - back
        piece = bytes(out[start : start + length])
        out += (piece * (length // len(piece) + 1))[:length]
    if len(out) != size:
        raise ValueError("an S2 block is not as long as it says")
    return bytes(out)


def uvarint(data: bytes, at: int) -> tuple[int, int]:
    """The variable-length number at `at`, and where it ends. Raises ValueError."""
    value = 0
    for count, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, at + count + 1
    raise ValueError("a number has no end")


def _number(block: bytes, at: int, count: int) -> tuple[int, int]:
    if at + count > len(block):
        raise ValueError("an S2 block ends too early")
    return int.from_bytes(block[at : at + count], "little"), at + count
