"""Sealing what one identity sends into one room: rights, key and heads as they are now, each nonce once.

Must never seal under a key that somebody holds who is gone, nor use a counter of a session twice.
"""

import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from unibus.crypto.frames import (
    MAX_COUNTER,
    MAX_FRAME,
    MESSAGES,
    SESSION_BYTES,
    Content,
    Purpose,
    seal_frame,
    session_anew,
)
from unibus.crypto.heads import Head
from unibus.errors import Forbidden

if TYPE_CHECKING:
    from unibus.client.bus import Bus
    from unibus.client.room import Room


class Seal(Protocol):
    """Makes one frame of `messages`, under what was current when this was made.

    `unsettled` is how many frames right before this one may not be stored, if they are of the same session. `instead`
    is session and counter of the frame whose messages these are; only once for each.
    """

    def __call__(
        self,
        messages: Sequence[bytes],
        purpose: Purpose = MESSAGES,
        *,
        unsettled: int = 0,
        instead: tuple[bytes, int] | None = None,
    ) -> bytes: ...


class Session:
    """What one sender has sealed under one key of one epoch; see `crypto.frames`.

    `most_bytes` is how much that may be at most. A sender that starts anew begins another session, so a budget that was
    half used is never taken up again.
    """

    def __init__(self, epoch: int, most_bytes: int) -> None:
        self.epoch = epoch
        self.id = secrets.token_bytes(16)
        self.counter = self.bytes = 0
        self._most_bytes = most_bytes

    @property
    def spent(self) -> bool:
        """Whether its key must not be used again: another frame might exceed what is safe."""
        return self.counter >= MAX_COUNTER or self.bytes + MAX_FRAME > self._most_bytes


class Sealer:
    """Seals for one room. `doubt` is set when what is known of the room may be old."""

    def __init__(self, bus: "Bus", room: "Room", *, session_bytes: int = SESSION_BYTES) -> None:
        self._session_bytes = session_bytes
        self._bus = bus
        self._room = room
        self._session: Session | None = None
        self._heads: tuple[Head, Head] | None = None
        self._seal: Seal | None = None
        self.doubt = False

    async def ready(self, doubt: bool) -> Seal:
        """What seals frames now, after asking for news if there is `doubt`. Raises Forbidden, NotFound, NotAUser."""
        bus, room = self._bus, self._room
        directory = bus.directory
        if doubt or self.doubt or not room.state.may_write(bus.user, directory):
            # What this client knows may be old: ask before refusing, and before trying for ever.
            await bus.replica.sync_directory()
            await bus.replica.sync_room(room.id)
            self.doubt = False
        while True:
            if not room.state.may_write(bus.user, directory):
                why = "it is archived" if room.state.archived else "you are a reader"
                raise Forbidden(f"the room {room.name!r} takes no messages from you: {why}")
            heads = (room.state.head, directory.head)
            going = self._session is not None and not self._session.spent
            if self._seal is not None and self._heads == heads and going:
                return self._seal
            if room.state.rotation_due(directory):
                await room.rotate()
                continue
            key = await bus.keyring.current(room.state)
            # While the key was on its way somebody may have left or lost a right: what was judged must still be so.
            if (room.state.head, directory.head) == heads:
                return self._renew(key, heads)

    def abandon(self) -> None:
        """Begin another session before anything more is sealed: a frame of this one was not stored in its place."""
        self._session = self._seal = None

    def _renew(self, key: bytes, heads: tuple[Head, Head]) -> Seal:
        state, signing = self._room.state, self._bus.identity.signing
        session = self._session
        if session is None or session.epoch != state.epoch.number or session.spent:
            session = self._session = Session(state.epoch.number, self._session_bytes)
        ref = state.epoch_ref(session.epoch)

        def seal(
            messages: Sequence[bytes],
            purpose: Purpose = MESSAGES,
            *,
            unsettled: int = 0,
            instead: tuple[bytes, int] | None = None,
        ) -> bytes:
            content = Content(int(time.time() * 1000), *heads, tuple(messages))
            if instead is not None:
                return seal_frame(signing, key, ref, session_anew(*instead), 0, content, purpose)
            before = min(unsettled, session.counter)
            frame = seal_frame(signing, key, ref, session.id, session.counter, content, purpose, unsettled=before)
            session.counter += 1
            session.bytes += len(frame)
            return frame

        self._heads, self._seal = heads, seal
        return seal
