"""HighwayHash-64, by which nats-server tells a record in its files from damage. Pure.

It guards against accidents only: must never be used where somebody could gain by a second preimage.
"""

import struct
from collections.abc import Sequence

_M32, _M64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_INIT0 = (0xDBE6D5D5FE4CCE2F, 0xA4093822299F31D0, 0x13198A2E03707344, 0x243F6A8885A308D3)
_INIT1 = (0x3BD39E10CB0EF593, 0xC0ACF169B5F18A8C, 0xBE5466CF34E90C6C, 0x452821E638D01377)
_PACKET = struct.Struct("<4Q")
_ROUNDS = 4  # that end a digest of 64 bits


def digest64(key: bytes, data: bytes) -> bytes:
    """The digest of `data`, 8 bytes in the order in which nats-server writes them. `key` has 32 bytes."""
    state = _State(_PACKET.unpack(key))
    whole = len(data) - len(data) % _PACKET.size
    for start in range(0, whole, _PACKET.size):
        state.mix(_PACKET.unpack_from(data, start))
    if whole < len(data):
        state.remainder(data[whole:])
    return state.end().to_bytes(8, "little")


class _State:
    def __init__(self, key: Sequence[int]) -> None:
        self._v0 = [a ^ b for a, b in zip(_INIT0, key, strict=True)]
        self._v1 = [a ^ _swapped(b) for a, b in zip(_INIT1, key, strict=True)]
        self._mul0, self._mul1 = list(_INIT0), list(_INIT1)

    def mix(self, lanes: Sequence[int]) -> None:
        """Take in a packet."""
        v0, v1, mul0, mul1 = self._v0, self._v1, self._mul0, self._mul1
        for i, lane in enumerate(lanes):
            b = v1[i] = (v1[i] + mul0[i] + lane) & _M64
            mul0[i] ^= (b & _M32) * (v0[i] >> 32)
            a = v0[i] = (v0[i] + mul1[i]) & _M64
            mul1[i] ^= (a & _M32) * (b >> 32)
        for source, target in ((v1, v0), (v0, v1)):
            for i in (0, 2):
                low, high = _merged(source[i], source[i + 1])
                target[i] = (target[i] + low) & _M64
                target[i + 1] = (target[i + 1] + high) & _M64

    def remainder(self, rest: bytes) -> None:
        """Take in what is left, less than a packet and more than nothing."""
        size, whole = len(rest), len(rest) & ~3
        self._v0 = [(lane + (size << 32) + size) & _M64 for lane in self._v0]
        self._v1 = [_turned(lane, size) for lane in self._v1]
        packet = bytearray(_PACKET.size)
        packet[:whole] = rest[:whole]
        if size & 16:
            packet[28:] = rest[-4:]
        elif odd := rest[whole:]:
            packet[16:19] = bytes((odd[0], odd[len(odd) >> 1], odd[-1]))
        self.mix(_PACKET.unpack(packet))

    def end(self) -> int:
        """What comes out."""
        for _ in range(_ROUNDS):
            self.mix([_swapped(self._v0[lane]) for lane in (2, 3, 0, 1)])
        return (self._v0[0] + self._v1[0] + self._mul0[0] + self._mul1[0]) & _M64


def _merged(low: int, high: int) -> tuple[int, int]:
    """The bytes 3 12 2 5 14 1 15 0, and 11 4 10 13 9 6 8 7, of two lanes. By masks, which is the fastest way."""
    return (
        (low & 0xFF000000 | high & 0xFF00000000) >> 24
        | (low & 0xFF0000000000 | high & 0xFF000000000000) >> 16
        | low & 0xFF0000
        | (low & 0xFF00) << 32
        | (high & 0xFF00000000000000) >> 8
        | (low & 0xFF) << 56,
        (high & 0xFF000000 | low & 0xFF00000000) >> 24
        | high & 0xFF0000
        | (high & 0xFF0000000000) >> 16
        | (high & 0xFF00) << 24
        | (low & 0xFF000000000000) >> 8
        | (high & 0xFF) << 48
        | low & 0xFF00000000000000,
    )


def _swapped(lane: int) -> int:
    return (lane >> 32) | ((lane & _M32) << 32)


def _turned(lane: int, count: int) -> int:
    """Both halves turned left by `count` bits."""
    low, high = (((half << count) | (half >> (32 - count))) & _M32 for half in (lane & _M32, lane >> 32))
    return high << 32 | low
