"""Sends members away from a node that has not known for a while what was decided elsewhere.

Without a quorum a node hears of no revocation. It lets nobody in then, but who is in already would go on hearing and
sending signals there; clients go to another node.
"""

import asyncio
from collections.abc import Callable

from structlog.typing import FilteringBoundLogger

from unibus.bus.links import Links
from unibus.bus.registry import Registry
from unibus.errors import BusUnavailable

AWAY_AFTER = 15.0
"""Seconds: a cluster that lost a leader takes 4 to 10 to choose another, and nobody is to be sent away for that."""
_EVERY = 1.0


class Standing:
    """Since when a node has not been current. Pure."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def absent(self) -> bool:
        """Whether it was not current when it was last looked at."""
        return self._since is not None

    def lost(self, reason: str | None, now: float) -> bool:
        """Whether it was not for too long at the time `now` in seconds; `reason` is why it is not, None if it is."""
        if reason is None:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= AWAY_AFTER


async def watch_standing(
    links: Links,
    server: str,
    registry: Registry,
    current: Callable[[], str | None],
    clock: Callable[[], float],
    log: FilteringBoundLogger,
) -> None:
    """Look again and again, until cancelled. Raises BusUnavailable when `server` does not obey.

    `current` says why what was decided may not be known here, None if it is; `clock` never goes back.
    """
    standing = Standing()
    while True:
        reason = current()
        if reason is not None and not standing.absent and len(registry):
            log.warning("a node is not current: its members stay for a moment", reason=reason)
        if standing.lost(reason, clock()) and (members := registry.revoke_all()):
            log.warning("members are sent away until this node is current again", reason=reason, members=len(members))
            try:
                await links.kick(server, members)
            except BusUnavailable as error:
                raise BusUnavailable(f"members could not be sent away: {error.message}") from error
        await asyncio.sleep(_EVERY)
