"""How fast anybody may ask: each user by name, each address by number, and nobody when the house is full.

Addresses are the connection's own; X-Forwarded-For is anybody's to write and is never read. On loopback, where proxies
and local tools are, only users are limited.
"""

import math
from collections.abc import Callable

from aiohttp import web

from unibus.errors import (
    BootstrapRefused,
    ConnectionsExhausted,
    InviteUnknown,
    NonceReplayed,
    NotAUser,
    RateLimited,
    SignatureInvalid,
    SignatureMissing,
    SignatureStale,
    UnibusError,
    WrongBus,
)
from unibus.http.limits import BURST_SECONDS, Limits
from unibus.http.site import Connection
from unibus.model.rates import Rates, address_key

_FROM_STRANGERS = (
    BootstrapRefused,
    InviteUnknown,
    NonceReplayed,
    NotAUser,
    SignatureInvalid,
    SignatureMissing,
    SignatureStale,
    WrongBus,
)


class Limiter:
    """The rates of one node. `clock` gives seconds that never go back, `key` what an address counts as, if at all."""

    def __init__(
        self, limits: Limits, clock: Callable[[], float], key: Callable[[str | None], str | None] = address_key
    ) -> None:
        self._users = Rates(limits.rate_per_user, limits.rate_per_user * BURST_SECONDS, limits.remembered)
        self._appends = Rates(limits.appends_per_user, limits.append_burst, limits.remembered)
        self._addresses = Rates(limits.rate_per_address, limits.rate_per_address * BURST_SECONDS, limits.remembered)
        self._cost = limits.refusal_cost
        self._clock = clock
        self._key = key

    def pace(self, user: str) -> None:
        """Count a request of `user`. Raises RateLimited."""
        _refuse(self._users.wait(user, self._clock()), "you ask")

    def unpace(self, user: str) -> None:
        """Take back what `pace` counted, for a request that may be somebody else's copy of one of `user`'s."""
        self._users.give_back(user, self._clock())

    def pace_append(self, user: str) -> None:
        """Count a record that `user` wants appended. Raises RateLimited."""
        _refuse(self._appends.wait(user, self._clock()), "you append records")

    def begins(self, request: web.Request) -> None:
        """See `Watcher.begins`: counts a request of an address, and turns away who is one too many."""
        if isinstance(request.protocol, Connection) and request.protocol.crowded:
            raise ConnectionsExhausted("the node has as many connections as it takes; try again in a moment")
        address = self._key(request.remote)
        if address is not None:
            _refuse(self._addresses.wait(address, self._clock()), "this address asks")

    def charge(self, peer: str | None) -> None:
        """Count what proves nothing and costs much, such as a TLS handshake, against an address. Raises RateLimited."""
        address = self._key(peer)
        if address is not None:
            _refuse(self._addresses.wait(address, self._clock()), "this address asks")
            self._addresses.charge(address, self._cost - 1, self._clock())

    def ends(self, request: web.Request, status: int, error: UnibusError | None, seconds: float) -> None:  # noqa: ARG002 - a Watcher's signature
        """See `Watcher.ends`: who proved nothing is counted more than once."""
        if error is not None and isinstance(error, _FROM_STRANGERS):
            address = self._key(request.remote)
            if address is not None:
                self._addresses.charge(address, self._cost - 1, self._clock())


def _refuse(wait: float, who: str) -> None:
    if wait:
        raise RateLimited(f"{who} too often; go on in {math.ceil(wait)} s", retry_after=round(wait, 3))
