"""Where connections over TLS come in: each is counted when it comes, not only once it has shaken hands.

asyncio says nothing of a connection before its handshake is through, and strangers could hold any number until then. So
what listens takes plain connections and hands each socket on to a handshake. Must never read a byte itself.
"""

import asyncio
import os
import socket
import ssl
from abc import abstractmethod

HANDSHAKE_SECONDS = 5.0


class Guest(asyncio.Protocol):
    """A connection that is to come in."""

    __slots__ = ()

    @abstractmethod
    def knock(self, transport: asyncio.BaseTransport) -> bool:
        """Be counted; whether it may shake hands."""

    @abstractmethod
    def shakes_hands(self, handshake: asyncio.Task[None]) -> None:
        """Begin with `handshake`; whoever ends the connection before that is through cancels it."""

    @abstractmethod
    def leave(self) -> None:
        """Be counted no longer."""


class Door(asyncio.Protocol):
    """What `guest` is until the socket is handed on to its handshake, which is in `shaking` meanwhile."""

    def __init__(self, guest: Guest, tls: ssl.SSLContext, shaking: set[asyncio.Task[None]]) -> None:
        self._guest, self._tls, self._shaking = guest, tls, shaking

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the socket on, if it may shake hands; this transport ends."""
        held = _second(transport.get_extra_info("socket")) if self._guest.knock(transport) else None
        if held is not None:
            handshake = asyncio.create_task(self._shake_hands(held), name="handshake")
            self._shaking.add(handshake)
            handshake.add_done_callback(self._shaking.discard)
            self._guest.shakes_hands(handshake)
        else:
            self._guest.leave()
        transport.close()  # this one: the socket stays open

    async def _shake_hands(self, held: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                lambda: self._guest, held, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_SECONDS
            )
        except OSError:
            self._guest.leave()  # no client of ours, or gone: nothing to tell
        except BaseException:
            self._guest.leave()
            raise


def _second(held: socket.socket) -> socket.socket | None:
    """The same socket once more, which stays open when the other is closed; None where no more files may be open."""
    try:
        second = socket.socket(fileno=os.dup(held.fileno()))
    except OSError:
        return None
    second.setblocking(False)
    return second
