"""A removal is answered once it holds on every node: the daemons of a cluster ask each other whether it does.

Must never fail a removal, nor hold it up for longer than its bounds: the record is in the log, and whoever is silent
takes it up with all the others. Members reach no such subject.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection

import nats.errors
from nats.aio.msg import Msg
from structlog.typing import FilteringBoundLogger

from unibus.bus.consumers import end_deliveries
from unibus.bus.elsewhere import deliveries_of
from unibus.bus.links import Links
from unibus.bus.workers import Workers
from unibus.crypto.encoding import dump_json
from unibus.errors import BusUnavailable
from unibus.services.ports import Taken
from unibus.tasks import end_tasks

WITHIN = 3.0
"""Seconds in which a node takes a record up. A client that is not answered within four asks another node."""
END_WITHIN = 0.5
"""Seconds, beyond those, to end what silent nodes deliver; what takes longer goes on after the answer."""
UNREACHED = 1.0
"""Seconds for a daemon that cannot be reached from here: it is gone, or hears of records by another way."""
_LATE = 0.5
"""Seconds after which it is looked up what they may deliver: that takes four when one of their servers hangs."""
_AGAIN = 0.1
_MOST_AT_ONCE = 1000

UntilFollowed = Callable[[str, int], Awaitable[None]]
"""Returns once the record at a position of a log has taken effect on this node."""


def subject(node: str) -> str:
    """The subject in CORE on which the daemon of `node` is asked."""
    return f"effect.{node}"


class Fellows:
    """The other daemons, for one that is called `node`. `alive` gives the nodes that were heard of late."""

    def __init__(
        self, node: str, alive: Callable[[], Collection[str]], followed: UntilFollowed, log: FilteringBoundLogger
    ) -> None:
        self._node = node
        self._alive = alive
        self._followed = followed
        self._log = log
        self._links: Links | None = None
        self._silent: dict[str, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def listen(self, links: Links) -> Callable[[], Awaitable[None]]:
        """Ask and answer over `links` from now on, until what this returns is called."""
        answering = Workers("effect", _MOST_AT_ONCE, self._log)

        async def asked(message: Msg) -> None:
            if not answering.full:
                answering.run(self._answer(message))

        async def close() -> None:
            self._links = None
            await end_tasks(*self._silent.values(), *self._ending)
            self._silent.clear()
            await answering.close()

        await links.core.subscribe(subject(self._node), cb=asked)
        await links.core.flush()
        self._links = links
        return close

    async def took_effect(self, log: str, position: int, taken: Collection[Taken]) -> None:
        """See `services.ports.BusEffects`. Who was silent is waited for only after it has answered again."""
        links = self._links
        others = set(self._alive()) - {self._node}
        if links is None or not others:
            return
        body = dump_json({"log": log, "position": position})
        known = self._silent.keys() & others
        asking = [asyncio.create_task(self._ask(links, node, body), name="effect") for node in others - known]
        ending = asyncio.create_task(self._end_of_silent(links, others, taken, asking), name="effect")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        if asking:
            await asyncio.wait(asking)
        if self._silent.keys() & others:
            await asyncio.wait([ending], timeout=END_WITHIN)
        else:
            await end_tasks(ending)

    async def _end_of_silent(
        self, links: Links, others: Collection[str], taken: Collection[Taken], asking: Collection[asyncio.Task[None]]
    ) -> None:
        try:
            if asking and not self._silent.keys() & others:
                await asyncio.sleep(_LATE)
            found = await deliveries_of(links, taken)
            if asking:
                await asyncio.wait(asking)
            if found and self._silent.keys() & others:
                await end_deliveries(links, found)
        except BusUnavailable as error:
            self._log.warning("what silent nodes deliver was not ended", reason=error.message)

    async def _ask(self, links: Links, node: str, body: bytes) -> None:
        """Return once `node` has answered, or is taken for silent."""
        try:
            await _request(links, node, body)
        except (TimeoutError, nats.errors.NoRespondersError):
            if node not in self._silent:
                self._log.warning("a node does not say that a removal has taken effect there", node=node)
                self._silent[node] = asyncio.create_task(self._win_back(links, node, body), name="effect")
        except nats.errors.Error as error:
            self._log.warning("nobody can be asked whether a removal has taken effect", reason=str(error))

    async def _win_back(self, links: Links, node: str, body: bytes) -> None:
        """Ask on, until `node` has answered or is known to be gone."""
        try:
            while node in self._alive():
                try:
                    await _request(links, node, body)
                    break
                except (TimeoutError, nats.errors.NoRespondersError):
                    continue
        except nats.errors.Error as error:
            self._log.warning("a silent node is asked no more", node=node, reason=str(error))
        finally:
            self._silent.pop(node, None)

    async def _answer(self, message: Msg) -> None:
        told = json.loads(message.data)
        try:
            async with asyncio.timeout(WITHIN):
                await self._followed(told["log"], told["position"])
            await message.respond(b"{}")
        except (TimeoutError, nats.errors.Error) as error:
            self._log.warning("a removal has no effect yet", log=told["log"], error=repr(error))


async def _request(links: Links, node: str, body: bytes) -> None:
    """Ask until there is an answer. Raises TimeoutError, errors of `nats.errors`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        left = began + WITHIN - loop.time()
        try:
            # Twice, because a route that breaks loses what it has.
            await links.core.request(subject(node), body, timeout=max(_AGAIN, min(left, WITHIN / 2)))
        except nats.errors.NoRespondersError:
            if loop.time() - began > UNREACHED:
                raise
            await asyncio.sleep(_AGAIN)
        except nats.errors.TimeoutError:
            if loop.time() - began > WITHIN - _AGAIN:
                raise
        else:
            return
