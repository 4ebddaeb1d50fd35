"""A room: who is in it and which key epoch is current, as a pure function of its log and the directory.

Rules (`room_rules`): the first record makes the room and its owner, and its signer and salt give the room its id. Only
an owner adds, removes, renames, archives and changes roles; anybody leaves; whoever may write may start an epoch; one
owner is always left, and where the bus has lost them all a member may step in. A record is signed by somebody who was
on the bus at the directory head that it names; those heads never go back along the log, so once a room has named a
revocation, the revoked user can sign nothing more in it. An epoch's key goes to exactly the members who are on the bus
at that head. A removal starts an epoch; with `since-join` history an addition does too.
"""

from collections.abc import Iterable, Mapping

from unibus.crypto.encoding import unb64u
from unibus.crypto.heads import Head
from unibus.errors import LogForked, MalformedRecord, NotAUser, RuleBroken
from unibus.model.bodies import (
    Epoch,
    RoomAdd,
    RoomArchive,
    RoomCreate,
    RoomLeave,
    RoomRemove,
    RoomRename,
    RoomRetention,
    RoomRole,
    RoomSetRole,
)
from unibus.model.directory import Directory
from unibus.model.records import Record, chain, room_log
from unibus.model.room_rules import check_room
from unibus.model.room_state import WRITERS, EpochState, RoomState

__all__ = ["WRITERS", "EpochState", "Room", "check_sealed", "reduce_room"]


class Room(RoomState):
    """The state, and the two ways to extend it: `check` says whether a record may follow; `apply` adds it."""

    def check(self, record: Record, directory: Directory) -> None:
        """Return if `record` may follow, given the directory.

        Raises WrongBus, HeadConflict, NotAUser, Forbidden (the signer's right), RuleBroken (the rules), LogForked (the
        record names a directory head that is not in `directory`).
        """
        check_room(self, record, directory, self._check_place(record, directory))

    def _check_place(self, record: Record, directory: Directory) -> Head:
        chain(record, self.bus, room_log(self.id), self.head)
        named = record.directory
        if named is None:
            raise MalformedRecord("a room's record names the directory head that its signer knew")
        if directory.head_at(named.sequence) != named:
            raise LogForked("this record was signed under another directory than the one shown here")
        if named.sequence < self.directory:
            raise RuleBroken("a room's records never go back to an older directory head")
        if not directory.active_at(record.signer, named.sequence):
            raise NotAUser("the signer of this record was not on the bus")
        return named

    def apply(self, record: Record, directory: Directory) -> None:
        """Add a record that `check` let through."""
        body, sequence = record.body, record.sequence
        recipients = self.recipients(record, directory)
        match body:
            case RoomCreate():
                self.name, self.history, self.created = body.name, body.history, record.at
                self._turn(record.signer, "owner", sequence)
            case RoomAdd(user=user, role=role) | RoomSetRole(user=user, role=role):
                self._turn(user, role, sequence)
            case RoomRemove(user=user):
                self._turn(user, None, sequence)
            case RoomLeave(successor=successor):
                self._turn(record.signer, None, sequence)
                if successor is not None:
                    self._turn(successor, "owner", sequence)
            case RoomRename(name=name):
                self.name = name
            case RoomRetention():
                self.retention = body
                self.retentions.append(body)
            case RoomArchive():
                self.archived = sequence
        self._seal(getattr(body, "epoch", None), recipients, sequence)
        self._heads.append(record.head)
        self.directory = record.directory.sequence if record.directory else self.directory

    def _seal(self, epoch: Epoch | None, recipients: frozenset[str], sequence: int) -> None:
        if epoch is None:
            current = self.epoch
            current.came |= recipients - self._holders - current.gone
            current.gone -= recipients
            self._holders |= recipients
            return
        self.epochs[epoch.number] = EpochState(
            number=epoch.number,
            commitment=unb64u(epoch.commitment),
            previous=unb64u(epoch.previous) if epoch.previous else None,
            began=sequence,
            came=set(recipients - self._holders),
            gone=self._holders - recipients,
        )
        self._holders = set(recipients)

    def _turn(self, user: str, role: RoomRole | None, sequence: int) -> None:
        if role is None:
            del self.roles[user]
        else:
            self.roles[user] = role
        self._turns.setdefault(user, []).append((sequence, role))


def check_sealed(room: Room, record: Record, sealed: Mapping[str, bytes], directory: Directory) -> None:
    """Check that `sealed` has a key for exactly the recipients of `record`. Raises RuleBroken, naming who is amiss."""
    wanted = room.recipients(record, directory)
    if set(sealed) != wanted:
        amiss = sorted(set(sealed) ^ wanted)
        raise RuleBroken(f"the sealed keys do not fit the members: {', '.join(map(directory.handle_of, amiss))}")


def reduce_room(bus: str, room: str, records: Iterable[Record], directory: Directory) -> Room:
    """The room that a whole log gives. Raises as `Room.check` for the first record that may not stand."""
    state = Room(bus, room)
    for record in records:
        state.check(record, directory)
        state.apply(record, directory)
    return state
