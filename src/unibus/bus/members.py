"""The members at one server: who is connected, who comes and goes, and how one is cut off.

Must never leave a connection standing that was revoked while it came up, nor take one for ended before the server has
said so: a server that does not obey is for `disobeyed` to deal with.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg

from unibus.bus.config import MEMBERS
from unibus.bus.deliveries import Deliveries
from unibus.bus.links import Links
from unibus.bus.pace import Pace
from unibus.bus.pacing import sent_by
from unibus.bus.registry import Registry
from unibus.errors import BusUnavailable


class Members:
    """All members at the server with the id `server`: their connections, and how much they send.

    `disobeyed` is awaited with the reason when the server does not end what it was told to. `monotonic` gives seconds
    and never goes back.
    """

    def __init__(
        self,
        links: Links,
        server: str,
        deliveries: Deliveries,
        monotonic: Callable[[], float],
        disobeyed: Callable[[BusUnavailable], Awaitable[None]],
    ) -> None:
        self._links = links
        self._server = server
        self._deliveries = deliveries
        self._monotonic = monotonic
        self._disobeyed = disobeyed
        self._left = asyncio.Event()
        self.registry = Registry()
        self.pace = Pace()

    async def watch(self) -> None:
        """Hear from now on of whoever comes and goes."""
        await self._links.system.subscribe(f"$SYS.ACCOUNT.{MEMBERS}.*", cb=self._came_or_went)
        await self._links.system.flush()

    async def cut(self, user: str, room: str | None) -> None:
        """End what `user` has, or only what it has of `room`: connections first, then deliveries."""
        try:
            await self._links.kick(self._server, self.registry.revoke(user, room))
            await self._deliveries.end(user, room)
            if self._deliveries.lingers(user):  # what is fed to nobody is heard by nobody
                await self._links.kick(self._server, self.registry.revoke(user))
        except BusUnavailable as error:
            await self._disobeyed(error)

    async def wait_gone(self, seconds: float) -> None:
        """Return when all have left, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(self.registry):
                    self._left.clear()
                    await self._left.wait()

    async def _came_or_went(self, message: Msg) -> None:
        event = json.loads(message.data)
        if event["server"]["id"] != self._server:
            return  # another node's connection, which has a number of its own
        cid = int(event["client"]["id"])
        if message.subject.endswith(".DISCONNECT"):
            self.pace.gone(cid, self.registry.user_of(cid), sent_by(event), self._monotonic())
            self.registry.gone(cid)
            self._left.set()
        elif message.subject.endswith(".CONNECT") and not self.registry.came_up(cid):
            try:
                await self._links.kick(self._server, [cid])
            except BusUnavailable as error:
                await self._disobeyed(error)
