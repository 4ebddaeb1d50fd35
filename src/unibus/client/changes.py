"""Making records: what an identity signs to change the directory or a room. Pure but for the randomness it is given.

Each function returns the signed record and the sealed keys that go with it; appending is the caller's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from unibus.crypto.encoding import b64u
from unibus.crypto.heads import Head
from unibus.crypto.identity import Identity
from unibus.crypto.invites import InviteToken
from unibus.crypto.roomkey import KEY_BYTES, EpochRef, commitment, link, seal_to, sealed_digest
from unibus.errors import RuleBroken
from unibus.model.bodies import (
    BusCreate,
    Epoch,
    History,
    InviteCreate,
    InviteWithdraw,
    Role,
    RoomAdd,
    RoomCreate,
    RoomRemove,
    RoomRole,
    RoomRotate,
    Strict,
    UserAdmit,
    UserJoin,
    UserRename,
    UserRevoke,
    UserRole,
)
from unibus.model.directory import Directory, reduce_directory
from unibus.model.names import check_handle, check_room_name
from unibus.model.records import DIRECTORY, read_record, room_id, room_log, write_record
from unibus.model.room import Room

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Change:
    """A signed record for `log`, its sealed keys by recipient, and the epoch that it starts: number and key."""

    log: str
    record: bytes
    sealed: dict[str, bytes]
    epoch: tuple[int, bytes] | None = None


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signs, at what time (Unix seconds), with which randomness."""

    identity: Identity
    at: int
    random: Random

    def _sealed(self, key: bytes, ref: EpochRef, users: Iterable[str], directory: Directory) -> dict[str, bytes]:
        return {user: seal_to(key, ref, user, directory.users[user].sealing) for user in users}

    def _directory_record(self, directory: Directory, body: Strict) -> Change:
        raw = write_record(self.identity.signing, directory.bus, DIRECTORY, directory.head, body, at=self.at)
        return Change(DIRECTORY, raw, {})

    def found(self, handle: str) -> Change:
        """The record that makes a bus, with this identity as its first admin."""
        body = BusCreate(handle=check_handle(handle), card=self.identity.card(), salt=b64u(self.random(16)))
        return self._directory_record(Directory(), body)

    def admit(self, directory: Directory, handle: str, card: str, role: Role) -> Change:
        """Let the identity behind `card` onto the bus."""
        return self._directory_record(directory, UserAdmit(handle=check_handle(handle), role=role, card=card))

    def revoke(self, directory: Directory, user: str) -> Change:
        """Take `user` off the bus."""
        return self._directory_record(directory, UserRevoke(user=user))

    def change_role(self, directory: Directory, user: str, role: Role) -> Change:
        """Make `user` an admin or a plain member."""
        return self._directory_record(directory, UserRole(user=user, role=role))

    def rename(self, directory: Directory, user: str, handle: str) -> Change:
        """Give `user` another handle."""
        return self._directory_record(directory, UserRename(user=user, handle=check_handle(handle)))

    def invite(self, directory: Directory, key: str, role: Role, expires: int, handle: str | None) -> Change:
        """Make an invite with the public key `key`."""
        named = check_handle(handle) if handle is not None else None
        return self._directory_record(directory, InviteCreate(invite=key, role=role, expires=expires, handle=named))

    def withdraw_invite(self, directory: Directory, key: str) -> Change:
        """Take an invite back."""
        return self._directory_record(directory, InviteWithdraw(invite=key))

    def join(self, token: InviteToken, head: Head, handle: str) -> bytes:
        """The record by which this identity joins after `head`, by the invite in `token`."""
        body = UserJoin(
            invite=token.key.public,
            handle=check_handle(handle),
            card=self.identity.card(),
            proof=token.prove(self.identity.user),
        )
        return write_record(self.identity.signing, token.bus, DIRECTORY, head, body, at=self.at)

    def plain(self, room: Room, directory: Directory, body: Strict) -> Change:
        """A record of a room that brings no key: leaving, a role, a name, retention, archiving."""
        return Change(room_log(room.id), self._room_record(room, directory, body), {})

    def _room_record(self, room: Room, directory: Directory, body: Strict) -> bytes:
        return write_record(
            self.identity.signing,
            room.bus,
            room_log(room.id),
            room.head,
            body,
            at=self.at,
            directory=directory.head,
        )

    def create_room(self, directory: Directory, name: str, history: History) -> tuple[str, Change]:
        """A new room and its id."""
        if directory.bus is None:
            raise RuleBroken("this bus has no users yet")
        salt = b64u(self.random(16))
        room = Room(directory.bus, room_id(directory.bus, self.identity.user, salt))
        key, epoch, sealed = self._epoch(room, None, {self.identity.user}, directory)
        body = RoomCreate(
            name=check_room_name(name), salt=salt, history=history, epoch=epoch, sealed=b64u(sealed_digest(sealed))
        )
        return room.id, Change(room_log(room.id), self._room_record(room, directory, body), sealed, (epoch.number, key))

    def add(self, room: Room, directory: Directory, current: bytes, user: str, role: RoomRole) -> Change:
        """Add `user` to `room`, whose current key is `current`."""
        if room.history == "since-join" or room.rotation_due(directory):
            members = {*room.members(directory), user}
            key, epoch, sealed = self._epoch(room, current, members, directory)
        else:
            key, epoch = None, None
            sealed = self._sealed(current, room.epoch_ref(room.epoch.number), [user], directory)
        body = RoomAdd(user=user, role=role, epoch=epoch, sealed=b64u(sealed_digest(sealed)))
        started = (epoch.number, key) if epoch and key else None
        return Change(room_log(room.id), self._room_record(room, directory, body), sealed, started)

    def remove(self, room: Room, directory: Directory, current: bytes, user: str) -> Change:
        """Remove `user`, with a new key for those who stay."""
        members = set(room.members(directory)) - {user}
        key, epoch, sealed = self._epoch(room, current, members, directory)
        body = RoomRemove(user=user, epoch=epoch, sealed=b64u(sealed_digest(sealed)))
        return Change(room_log(room.id), self._room_record(room, directory, body), sealed, (epoch.number, key))

    def rotate(self, room: Room, directory: Directory, current: bytes) -> Change:
        """A new key for the members who are on the bus now."""
        key, epoch, sealed = self._epoch(room, current, set(room.members(directory)), directory)
        body = RoomRotate(epoch=epoch, sealed=b64u(sealed_digest(sealed)))
        return Change(room_log(room.id), self._room_record(room, directory, body), sealed, (epoch.number, key))

    def _epoch(
        self, room: Room, current: bytes | None, members: Iterable[str], directory: Directory
    ) -> tuple[bytes, Epoch, dict[str, bytes]]:
        key = self.random(KEY_BYTES)
        number = len(room.epochs) + 1
        ref = room.epoch_ref(number)
        linked = link(key, ref, current) if current is not None and room.history == "shared" else None
        epoch = Epoch(number=number, commitment=b64u(commitment(key, ref)), previous=b64u(linked) if linked else None)
        return key, epoch, self._sealed(key, ref, members, directory)


def genesis_bus(record: bytes) -> str:
    """The id of the bus that a genesis record makes. Raises as the reducers for one that makes none."""
    directory = reduce_directory([read_record(record)])
    if directory.bus is None:
        raise RuleBroken("this record makes no bus")
    return directory.bus
