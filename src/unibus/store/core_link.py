"""The connection over which blobs go to the node's own nats-server: there whenever the server is, made anew after it.

Apart from the daemon's other connections, so that a large blob keeps no revocation waiting. Must never be given out
once it is closed.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import nats.errors
from nats.aio.client import Client

from unibus.errors import StorageUnavailable, UnibusError

_LOOK_EVERY = 0.1  # seconds
_CLOSE_WITHIN = 2.0


class CoreLink:
    """Keep `run` running; `dial` makes a connection that does not reconnect by itself."""

    def __init__(self, dial: Callable[[], Awaitable[Client]]) -> None:
        self._dial = dial
        self._client: Client | None = None

    def client(self) -> Client:
        """The connection. Raises StorageUnavailable while there is none."""
        if self._client is None or not self._client.is_connected:
            raise StorageUnavailable("this node's nats-server does not answer: try again")
        return self._client

    async def run(self) -> None:
        """Keep the connection up, until this is cancelled."""
        try:
            while True:
                if self._client is None or self._client.is_closed:
                    with contextlib.suppress(UnibusError, OSError, nats.errors.Error):
                        self._client = await self._dial()
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            if self._client is not None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CLOSE_WITHIN):
                        await self._client.close()
