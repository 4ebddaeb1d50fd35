"""Tries the doors of a nats-server that somebody else runs: it must ask us about a stranger, and turn him away.

Runs before the callout, so nobody is let in meanwhile. Must never answer anything but a refusal.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable

import nats.errors
from nats.aio.msg import Msg

from unibus import natspy
from unibus.bus import callout_core as core
from unibus.bus.keys import BusKeys, login_seed
from unibus.bus.links import Links
from unibus.bus.vetting import ADVICE, Unfit
from unibus.crypto.nkeys import SigningKey
from unibus.errors import InvalidInput

_TRY_WITHIN = 5
_CLOSE_WITHIN = 2.0


class Probe:
    """One trial of the server with the id `server`. `clock` is in Unix seconds."""

    def __init__(
        self, links: Links, keys: BusKeys, server: str, *, clock: Callable[[], float], random: Callable[[int], bytes]
    ) -> None:
        self._links, self._keys, self._server = links, keys, server
        self._clock, self._random = clock, random
        self._strangers: set[str] = set()
        self._trouble = ""

    async def run(self, address: str, tls: ssl.SSLContext | None) -> None:
        """Return if everybody unknown is for us to decide on. Raises Unfit."""
        asked = await self._links.auth.subscribe(core.SUBJECT, cb=self._asked)
        try:
            await self._links.auth.flush()
            stranger = SigningKey.from_seed(self._random(32))
            if any(await asyncio.gather(_gets_in(address, tls, stranger), _gets_in(address, tls, None))):
                raise Unfit(f"lets strangers in without asking{ADVICE}")
            if stranger.public not in self._strangers:
                raise Unfit(f"does not ask this daemon who may connect{self._trouble or ADVICE}")
        finally:
            with contextlib.suppress(nats.errors.Error):
                await asked.unsubscribe()

    async def _asked(self, message: Msg) -> None:
        reply_to = (message.headers or {}).get(core.XKEY_HEADER, "")
        now = int(self._clock())
        try:
            attempt = core.read_request(message.data, reply_to, self._keys, self._server, now)
        except InvalidInput as error:
            self._trouble = f" in a way that is understood ({error.message}): compare keys and clocks"
            return
        self._strangers.add(attempt.claimed)
        answer = core.refusal(attempt, "not-yet", self._keys, now)
        await message.respond(core.seal(answer, reply_to, self._keys.curve, self._random(24)))


async def _gets_in(address: str, tls: ssl.SSLContext | None, stranger: SigningKey | None) -> bool:
    """Whether the server takes a connection of `stranger`, or of nobody."""
    client = natspy.Client()

    async def ignore(_error: Exception) -> None: ...

    try:
        await client.connect(
            address,
            nkeys_seed_str=login_seed(stranger) if stranger else None,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            connect_timeout=_TRY_WITHIN,
            error_cb=ignore,
            tls=tls,
            tls_handshake_first=tls is not None,
        )
        await client.flush()
    except (nats.errors.Error, OSError, TimeoutError):
        return False
    else:
        return True
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN):
                await client.close()
