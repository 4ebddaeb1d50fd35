"""A nats-server that somebody else runs, as a life's server: greeted, vetted, emptied of whom nobody vouches for.

It cannot be killed. So a life on it begins by sending everybody away, before it lets anybody in: whoever a revocation
did not reach is out then, and everybody else is decided on anew. Until then a lease bounds how long they stay. Must
never serve on a server that was not vetted as it runs now.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Mapping

from structlog.typing import FilteringBoundLogger

from unibus.bus import eviction, vetting
from unibus.bus.links import Links
from unibus.bus.options import BusOptions, External
from unibus.bus.probing import Probe
from unibus.bus.server import Reached
from unibus.bus.shut_out import ShutOut
from unibus.errors import BusUnavailable, StartRefused
from unibus.tasks import end_tasks

ANSWER_WITHIN = 5.0
LOOK_EVERY = 5.0
_LONGEST_INFO = 65_536


class ExternalServer:
    """Implements `server.Server` without a process. `clock` is in Unix seconds."""

    kind = "external"

    def __init__(
        self,
        options: BusOptions,
        external: External,
        log: FilteringBoundLogger,
        *,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
    ) -> None:
        self._options, self._external, self._log = options, external, log
        self._clock, self._random = clock, random
        self._tls: ssl.SSLContext | None = None
        self._over: Callable[[str], None] = lambda _reason: None
        self._watch: asyncio.Task[None] | None = None
        self.lease: int | None = external.lease
        self.port, self.ws_port = external.port, 0
        self.shut_out = ShutOut()  # whose message stopped it stands in files that are not ours

    async def prepare(self) -> None:
        """Read the authorities of its certificate. Raises StartRefused."""
        if not self._external.secure:
            return
        try:
            self._tls = ssl.create_default_context(cafile=self._external.ca)
        except OSError as error:
            raise StartRefused(f"--nats-ca {self._external.ca} holds no usable authorities: {error}") from error

    async def start(self, over: Callable[[str], None]) -> None:
        """Nothing to start."""
        self._over = over

    def name_taken(self) -> bool:
        """Its name is its owner's affair."""
        return False

    async def digest(self) -> None:
        """Nobody gave it its configuration."""

    async def reach(self) -> Reached:
        """Hear its greeting. Raises BusUnavailable for one that cannot serve, or is not there."""
        told = await self._greeting()
        if trouble := vetting.greeting_trouble(told, secure=self._external.secure):
            raise BusUnavailable(f"the nats-server at {self._external.address} {trouble}")
        return Reached(self._external.address, self._tls, str(told["server_name"]), vetting.ADVICE)

    async def vet(self, links: Links, members: str) -> None:
        """Send everybody away, then look whether it is set up as it has to be. Raises BusUnavailable."""
        where = f"the nats-server at {self._external.address}"
        try:
            server = await vetting.one_server(links)
            sent_away = await eviction.send_away(links, server, members)
            seen = await vetting.look(links, server, self._options.max_payload)
            probe = Probe(links, self._external.keys, server, clock=self._clock, random=self._random)
            await probe.run(self._external.address, self._tls)
            await eviction.end_deliveries(links)
        except vetting.Unfit as trouble:
            raise BusUnavailable(f"{where} {trouble}") from trouble
        if sent_away:
            self._log.info("connections were sent away to be decided on anew", connections=sent_away)
        self._watch = asyncio.create_task(self._watch_settings(links, server, seen), name="external nats-server")

    async def renew(self) -> None:
        """Nothing: its certificate is for its owner to renew."""

    def shortage(self) -> str:
        """Nothing that could be seen from here."""
        return ""

    def stuck(self) -> bool:
        """No: when it begins anew is its operator's to say."""
        return False

    async def drain(self) -> bool:
        """Not done: it serves on, and while no daemon runs nobody's rights change."""
        return False

    async def subdue(self) -> None:
        """Nothing more can be done from here than what the next life begins with."""
        self._log.error("a revocation waits until the nats-server obeys again", address=self._external.address)

    async def stop(self, grace: float) -> None:  # noqa: ARG002 - the port's signature
        """Stop looking."""
        await end_tasks(self._watch)
        self._watch = None

    async def _greeting(self) -> Mapping[str, object]:
        """The server's INFO, after the handshake where there is TLS."""
        external = self._external
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                name = external.host if self._tls else None
                reader, writer = await asyncio.open_connection(
                    external.host, external.port, ssl=self._tls, server_hostname=name, limit=_LONGEST_INFO
                )
                try:
                    line = await reader.readline()
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError, ValueError) as error:
            raise BusUnavailable(
                f"the nats-server at {external.address} cannot be reached: {vetting.why_unreached(error)}"
            ) from error
        with contextlib.suppress(ValueError):
            told = json.loads(line.removeprefix(b"INFO "))
            if isinstance(told, dict) and {"server_id", "server_name", "version"} <= set(told):
                return told
        raise BusUnavailable(f"there is no nats-server at {external.address}")

    async def _watch_settings(self, links: Links, server: str, seen: str) -> None:
        """What was vetted may be changed while it serves; then all is vetted from the beginning."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            with contextlib.suppress(BusUnavailable):  # that it does not answer is for the life itself to notice
                if await vetting.settings(links, server) != seen:
                    self._over("the nats-server's configuration was changed, and is looked at anew")
                    return
