"""How a node of a cluster comes to serve, and what it knows of the others.

It serves once its copy of the records is proven current, nobody else bears its name, and all go by the same rules.
Until then, and whenever it cannot prove it, it answers nothing but how it is. Must never found a bus beside one that it
only does not see.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from structlog.stdlib import BoundLogger

from unibus import __version__
from unibus.crypto.httpsig import WINDOW
from unibus.daemon.beats import Beat, Heard, Rules, clock_off, disagreement, hear, namesake, shown, urls
from unibus.daemon.options import Options
from unibus.errors import StartRefused, StorageUnavailable

if TYPE_CHECKING:
    from unibus.store.kv import KvStore
    from unibus.store.kv_follower import NodeBeat

LISTEN = 2.5
"""Seconds in which another node of this name would have spoken twice."""
LOOKS = 20
"""How often one looks meanwhile: each of two that bear a name speaks over the other's last word within a second."""
CLOCK_SECONDS = 5.0
"""From here on `/healthz` tells of a clock that is off."""
AGAIN = 1.0
"""Seconds until what failed is tried again."""


class Joining:
    """One node's place among the others. `beat` is what it tells them; `draining` is set when it is about to end."""

    def __init__(self, options: Options, log: BoundLogger) -> None:
        self._name = options.node_name
        self._log = log
        self._instance = secrets.token_hex(8)
        self._url = options.public_url
        self._rules = Rules(
            cluster=options.cluster.name if options.cluster else None,
            bus_auth=options.bus_auth,
            tls=options.tls is not None,
            route_tls=options.cluster is not None and options.cluster.tls is not None,
        )
        self._told: Mapping[str, NodeBeat] = {}
        self._off = 0.0
        self.draining = False
        self.joined = False

    def beat(self) -> bytes:
        """This node's sign of life."""
        beat = Beat(
            instance=self._instance,
            version=__version__,
            rules=self._rules,
            url=self._url,
            draining=self.draining,
            now=time.time(),
        )
        return beat.encoded()

    def heard(self, kv: "KvStore") -> list[Heard]:
        """All nodes as they were last heard, by the clock of the cluster: the newest word is from now."""
        told = {name: (beat.value, beat.at) for name, beat in kv.nodes().items()}
        return hear(told, max((at for _, at in told.values()), default=0.0))

    def alive(self, kv: "KvStore") -> list[str]:
        """The names of the nodes that were heard of late."""
        return [node.name for node in self.heard(kv) if node.alive]

    async def join(self, kv: "KvStore", take_up: Callable[[], Awaitable[None]]) -> None:
        """Return once this node may serve, and has read all with `take_up`. Raises StartRefused."""
        while not self.joined:
            await kv.wait_current()
            for _ in range(LOOKS):
                await asyncio.sleep(LISTEN / LOOKS)
                if (reason := self._objection(self.heard(kv))) is not None:
                    raise StartRefused(reason)
            try:
                await take_up()
            except StorageUnavailable as error:
                self._log.warning("the bus is not read yet", reason=error.message)
                await asyncio.sleep(AGAIN)
            else:
                self.joined = True

    def check_clock(self, kv: "KvStore") -> None:
        """Raise StorageUnavailable while this node's clock is so far off that a spent nonce could be fresh to it."""
        told = kv.nodes()
        if told != self._told:  # asked at every request, and there are new words once a second
            self._told, self._off = told, clock_off(self.heard(kv), self._name)
        if abs(self._off) > WINDOW:
            raise StorageUnavailable(f"this node's clock is {_off(self._off)}: ask another one")

    def status(self, kv: "KvStore") -> dict[str, Any]:
        """What `/healthz` shows of the other nodes, with what is wrong about them in `reasons`."""
        heard = self.heard(kv)
        reasons = [f"node {node.name} was last heard {node.ago:.0f} s ago" for node in heard if not node.alive]
        if (reason := self._objection(heard)) is not None:
            reasons.append(reason)
        if abs(off := clock_off(heard, self._name)) > CLOCK_SECONDS:
            reasons.append(f"this node's clock is {_off(off)}: set it right")
        if not self.joined and not reasons:
            reasons.append("this node has not joined the others yet")
        if self.draining:
            reasons.append("this node is about to end: use another one")
        return {"nodes": shown(heard), "reasons": reasons}

    def _objection(self, heard: list[Heard]) -> str | None:
        return namesake(heard, self._name, self._instance) or disagreement(heard, self._name, self._rules)

    def urls(self, kv: "KvStore") -> list[str]:
        """Where clients reach the nodes that stay."""
        return urls(self.heard(kv))


def _off(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the other nodes'"
