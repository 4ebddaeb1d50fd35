"""Users whose message has stopped the messages of all: no daemon of the cluster lets them in any more.

Each daemon finds them in the files of its own nats-server, and tells the others for as long as it runs: those that keep
no messages have no such file. Must never take anybody's word for it but a daemon's; members reach no such subject.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable

import nats.errors
from nats.aio.msg import Msg
from structlog.typing import FilteringBoundLogger

from unibus.bus.links import Links
from unibus.crypto.encoding import dump_json

SUBJECT = "shut.out"
"""In CORE, where only daemons are, and from which nothing of this name is exported."""
_TELL_EVERY = 1.0
FORGET_AFTER = 60.0
"""Seconds after which nobody tells of a user any more: whoever found them has been restarted."""


class ShutOut:
    """Who that is. Pure; `now` is in seconds and never goes back."""

    def __init__(self) -> None:
        self.found: frozenset[str] = frozenset()
        self._told: dict[str, float] = {}

    def find(self, users: Iterable[str]) -> None:
        """Add what was found here."""
        self.found |= frozenset(users)

    def hear(self, users: Iterable[str], now: float) -> list[str]:
        """Add what another daemon tells; who of them was not shut out before."""
        new = [user for user in users if not self.holds(user, now)]
        self._told |= dict.fromkeys(users, now + FORGET_AFTER)
        return new

    def forget(self, user: str) -> None:
        """`user` was revoked, which is for good."""
        self.found -= {user}
        self._told.pop(user, None)

    def holds(self, user: str, now: float) -> bool:
        """Whether `user` is shut out."""
        return user in self.found or self._told.get(user, now) > now

    def anybody(self, now: float) -> bool:
        """Whether anyone is."""
        return bool(self.found) or any(until > now for until in self._told.values())


async def share(
    links: Links,
    known: ShutOut,
    cut: Callable[[str], Awaitable[None]],
    clock: Callable[[], float],
    log: FilteringBoundLogger,
) -> None:
    """Tell the other daemons and hear them, until cancelled. `cut` ends what a user has here."""

    async def told(message: Msg) -> None:
        for user in known.hear(json.loads(message.data), clock()):
            log.error("another node has found that a member had stopped the messages: revoke them", user=user)
            await cut(user)

    await links.core.subscribe(SUBJECT, cb=told)
    while True:
        if known.found:
            try:
                await links.core.publish(SUBJECT, dump_json(sorted(known.found)))
            except nats.errors.Error:
                return  # a broken link ends this life, and that is what is told
        await asyncio.sleep(_TELL_EVERY)
