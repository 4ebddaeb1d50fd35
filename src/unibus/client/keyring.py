"""The room keys that one identity can open, each checked against the commitment in the room's signed log.

Keys live in memory only. Never accepts a key that the log does not commit to.
"""

from unibus.client.api import ControlApi
from unibus.crypto.encoding import unb64u
from unibus.crypto.identity import Identity
from unibus.crypto.roomkey import follow_link, open_sealed
from unibus.errors import InvalidInput, NotFound, SealedKeyInvalid, SealedKeyMissing
from unibus.model.records import room_log
from unibus.model.room import Room


class Keyring:
    """Keys by room and epoch, fetched when they are first needed."""

    def __init__(self, api: ControlApi, identity: Identity) -> None:
        self._api = api
        self._identity = identity
        self._keys: dict[tuple[str, int], bytes] = {}
        self._unfit: dict[tuple[str, int], SealedKeyInvalid] = {}
        self._fetched: dict[str, int] = {}

    def known(self, room: str, epoch: int) -> bytes | None:
        """The key, if it was opened before."""
        return self._keys.get((room, epoch))

    def add(self, room: str, epoch: int, key: bytes) -> None:
        """Keep a key that this client made itself."""
        self._keys[room, epoch] = key

    async def key(self, room: Room, epoch: int) -> bytes:
        """The key of `epoch`.

        Raises NotFound for an epoch from before this identity joined, SealedKeyMissing when the server withholds a
        key that the log says was sealed to it, SealedKeyInvalid when what it hands out is not that key.
        """
        found = await self._look_up(room, epoch)
        if found is None and (room.id, epoch) not in self._unfit and self._holds(room, epoch) and self._api.several:
            # The node that was asked may be behind the one that showed the room: go on with one that has caught up.
            await self._api.records(room_log(room.id), room.head.sequence, room.head.sequence)
            found = await self._look_up(room, epoch)
        if found is not None:
            return found
        if (room.id, epoch) in self._unfit:
            raise self._unfit[room.id, epoch]
        if self._holds(room, epoch):
            raise SealedKeyMissing(f"the server withholds the key of epoch {epoch} of room {room.name!r}")
        raise NotFound(f"epoch {epoch} of room {room.name!r} is from before you joined")

    async def _look_up(self, room: Room, epoch: int) -> bytes | None:
        if (room.id, epoch) not in self._keys:
            await self._fetch(room)
            self._follow_links(room)
        return self._keys.get((room.id, epoch))

    def _holds(self, room: Room, epoch: int) -> bool:
        return self._identity.user in room.holders(epoch)

    async def current(self, room: Room) -> bytes:
        """The key of the epoch that is current when this returns, also if another began meanwhile. Raises as `key`."""
        while True:
            number = room.epoch.number
            key = await self.key(room, number)
            if room.epoch.number == number:
                return key

    async def _fetch(self, room: Room) -> None:
        while True:
            after = self._fetched.get(room.id, 0)
            page = await self._api.keys(room_log(room.id), after)
            for item in page.keys:
                if not after < item.sequence <= room.head.sequence:
                    return  # newer than what was verified of the room: it will be fetched when the room has caught up
                epoch = room.epoch_at(item.sequence)
                try:
                    self._keys[room.id, epoch] = self._open(room, epoch, item.sealed)
                except SealedKeyInvalid as error:
                    # Whoever sealed it sealed something else. What is sealed later must stay readable.
                    self._unfit[room.id, epoch] = error
                after = self._fetched[room.id] = item.sequence
            if not page.keys:
                return

    def _open(self, room: Room, epoch: int, text: str) -> bytes:
        try:
            sealed = unb64u(text)
        except InvalidInput as error:
            raise SealedKeyInvalid(f"the server shows something else for the sealed key of epoch {epoch}") from error
        return open_sealed(self._identity, sealed, room.epoch_ref(epoch), room.epochs[epoch].commitment)

    def _follow_links(self, room: Room) -> None:
        for number in range(len(room.epochs), 1, -1):
            key, linked = self._keys.get((room.id, number)), room.epochs[number].previous
            if key is None or linked is None or (room.id, number - 1) in self._keys:
                continue
            committed = room.epochs[number - 1].commitment
            try:
                self._keys[room.id, number - 1] = follow_link(key, room.epoch_ref(number), linked, committed)
            except SealedKeyInvalid:
                # Whoever began that epoch linked it wrongly. Newer messages must not become unreadable by that.
                continue
