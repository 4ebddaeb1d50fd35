"""How many requests each identity or address may send: a token bucket each, with a bounded memory. Pure.

Kept as one number a key, the time at which its bucket is full again (the "generic cell rate algorithm", ITU-T I.371).
A key that is full again is as good as unknown, so forgetting the key that asked longest ago is mostly no loss.
"""

import ipaddress
from collections import OrderedDict
from functools import lru_cache


class Rates:
    """Buckets that hold `burst` tokens and gain `rate` a second; a rate of 0 is no limit."""

    def __init__(self, rate: float, burst: float, remembered: int) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._burst = burst
        self._remembered = remembered
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: str, now: float) -> float:
        """Take a token and return 0, or take none and return the seconds until there is one. `now` never goes back."""
        if not self._interval:
            return 0.0
        full_at = max(now, self._full_at.get(key, now)) + self._interval
        over = full_at - now - self._burst * self._interval
        # What float arithmetic leaves over is no reason to wait.
        if over > self._interval / 1000:
            self._full_at.move_to_end(key)  # whoever goes on asking is not forgotten first
            return over
        self._keep(key, full_at)
        return 0.0

    def charge(self, key: str, tokens: float, now: float) -> None:
        """Take tokens after the fact, down to an empty bucket and no further."""
        if self._interval:
            owed = max(now, self._full_at.get(key, now)) + tokens * self._interval
            self._keep(key, min(owed, now + self._burst * self._interval))

    def give_back(self, key: str, now: float) -> None:
        """Put back a token that was taken."""
        if key in self._full_at:
            self._full_at[key] = max(now, self._full_at[key] - self._interval)

    def _keep(self, key: str, full_at: float) -> None:
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._remembered:
            self._full_at.popitem(last=False)


@lru_cache(maxsize=4096)
def address_key(peer: str | None) -> str | None:
    """What an address counts as: itself, or its /64 in IPv6, of which one host may use all. None for loopback."""
    try:
        address = ipaddress.ip_address((peer or "").partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return None if address.is_loopback else str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return None if address.is_loopback else str(address)
