"""A room: who is in it and which key epoch is current, as a pure function of its log and the directory.

Rules: the first record makes the room and its owner, and its signer and salt give the room its id. Only an owner adds
and removes; whoever may write may start an epoch. A record is signed by somebody who was on the bus at the directory
head that it names; those heads never go back along the log, so once a room has named a revocation, the revoked
user can sign nothing more in it. An epoch's key goes to exactly the members who are on the bus at that head. A
removal starts an epoch; with `since-join` history an addition does too.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from unibus.crypto.encoding import unb64u
from unibus.crypto.heads import EMPTY, Head
from unibus.crypto.roomkey import EpochRef
from unibus.errors import Forbidden, InvalidInput, LogForked, MalformedRecord, NotAUser, RuleBroken
from unibus.model.bodies import Epoch, History, RoomAdd, RoomCreate, RoomRemove, RoomRole, RoomRotate
from unibus.model.directory import Directory
from unibus.model.names import check_room_name
from unibus.model.records import Record, chain, room_id, room_log

WRITERS: frozenset[RoomRole] = frozenset({"owner", "member"})


@dataclass(frozen=True, slots=True)
class EpochState:
    """One epoch: its commitment and link, who was given its key, and the record that began it."""

    number: int
    commitment: bytes
    previous: bytes | None
    holders: frozenset[str]
    began: int


class Room:
    """The state after the records applied so far. `check` says whether a record may follow; `apply` adds it."""

    def __init__(self, bus: str, room: str) -> None:
        self.bus = bus
        self.id = room
        self.name = ""
        self.history: History = "shared"
        self.roles: dict[str, RoomRole] = {}
        self.epochs: dict[int, EpochState] = {}
        self.directory = 0
        self.created = 0
        self._heads: list[Head] = [EMPTY]
        self._turns: dict[str, list[tuple[int, RoomRole | None]]] = {}

    @property
    def head(self) -> Head:
        return self._heads[-1]

    def head_at(self, sequence: int) -> Head | None:
        """The head as it was after record `sequence`, or None if there is no such record yet."""
        return self._heads[sequence] if 0 < sequence < len(self._heads) else None

    def role_at(self, user: str, sequence: int) -> RoomRole | None:
        """The role that the room's log gave `user` after record `sequence`; says nothing about the directory."""
        turns = self._turns.get(user, [])
        index = bisect_right(turns, sequence, key=lambda turn: turn[0])
        return turns[index - 1][1] if index else None

    def epoch_at(self, sequence: int) -> int:
        """The number of the epoch that was current after record `sequence`."""
        return bisect_right(range(1, len(self.epochs) + 1), sequence, key=lambda number: self.epochs[number].began)

    @property
    def epoch(self) -> EpochState:
        """The current epoch; a room without records has none and raises KeyError."""
        return self.epochs[len(self.epochs)]

    def epoch_ref(self, number: int) -> EpochRef:
        """What the key of epoch `number` is bound to."""
        return EpochRef(self.bus, self.id, number)

    def members(self, directory: Directory) -> dict[str, RoomRole]:
        """Who is in the room now: its members who are still on the bus."""
        return {user: role for user, role in self.roles.items() if directory.active(user)}

    def role(self, user: str, directory: Directory) -> RoomRole | None:
        """The role of `user` now, or None for who is not in the room or no longer on the bus."""
        return self.roles.get(user) if directory.active(user) else None

    def may_write(self, user: str, directory: Directory) -> bool:
        """Whether `user` may send into the room now."""
        return self.role(user, directory) in WRITERS

    def rotation_due(self, directory: Directory) -> bool:
        """Whether somebody holds the current key who is not a member any more: rotate before anything is sent."""
        return any(user not in self.roles or not directory.active(user) for user in self.epoch.holders)

    def check(self, record: Record, directory: Directory) -> None:
        """Return if `record` may follow, given the directory.

        Raises WrongBus, HeadConflict, NotAUser, Forbidden (the signer's right), RuleBroken (the rules), LogForked (the
        record names a directory head that is not in `directory`).
        """
        named = self._check_place(record, directory)
        body = record.body
        if isinstance(body, RoomCreate) != (record.sequence == 1):
            raise RuleBroken("room.create is the first record of a room, and only that")
        if isinstance(body, RoomCreate):
            self._check_create(record.signer, body)
        elif isinstance(body, RoomAdd):
            self._check_add(record.signer, body, directory, named)
        elif isinstance(body, RoomRemove):
            self._check_remove(record.signer, body, directory, named)
        elif isinstance(body, RoomRotate):
            if self.roles.get(record.signer) not in WRITERS:
                raise Forbidden("only who may write in the room starts an epoch")
            self._check_epoch(body.epoch)

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

    def _check_create(self, signer: str, body: RoomCreate) -> None:
        if room_id(self.bus, signer, body.salt) != self.id:
            raise RuleBroken("a room's id follows from its creator and salt, and this one does not")
        try:
            check_room_name(body.name)
        except InvalidInput as error:
            raise RuleBroken(str(error)) from error
        self._check_epoch(body.epoch)

    def _check_add(self, signer: str, body: RoomAdd, directory: Directory, named: Head) -> None:
        if self.roles.get(signer) != "owner":
            raise Forbidden("only an owner adds members")
        if body.user in self.roles:
            raise RuleBroken("this user is in the room already")
        if not directory.active_at(body.user, named.sequence):
            raise RuleBroken("this user is not on the bus")
        if body.epoch is not None:
            self._check_epoch(body.epoch)
        elif self.history == "since-join":
            raise RuleBroken("in a room with since-join history an addition starts an epoch")

    def _check_remove(self, signer: str, body: RoomRemove, directory: Directory, named: Head) -> None:
        if self.roles.get(signer) != "owner":
            raise Forbidden("only an owner removes members")
        if body.user not in self.roles:
            raise RuleBroken("this user is not in the room")
        owners = (user for user, role in self.roles.items() if role == "owner" and user != body.user)
        if not any(directory.active_at(owner, named.sequence) for owner in owners):
            raise RuleBroken("a room keeps at least one owner")
        self._check_epoch(body.epoch)

    def _check_epoch(self, epoch: Epoch) -> None:
        if epoch.number != len(self.epochs) + 1:
            raise RuleBroken(f"the next epoch is {len(self.epochs) + 1}")
        if (epoch.previous is not None) != (self.history == "shared" and epoch.number > 1):
            raise RuleBroken("an epoch links to the one before exactly where history is shared")

    def recipients(self, record: Record, directory: Directory) -> frozenset[str]:
        """To whom the sealed keys of `record`, which `check` let through, must go: exactly these."""
        named = record.directory
        body = record.body
        if isinstance(body, RoomCreate):
            return frozenset({record.signer})
        if isinstance(body, RoomAdd) and body.epoch is None:
            return frozenset({body.user})
        members = set(self.roles)
        if isinstance(body, RoomAdd):
            members.add(body.user)
        elif isinstance(body, RoomRemove):
            members.discard(body.user)
        return frozenset(user for user in members if named and directory.active_at(user, named.sequence))

    def apply(self, record: Record, directory: Directory) -> None:
        """Add a record that `check` let through."""
        body = record.body
        recipients = self.recipients(record, directory)
        if isinstance(body, RoomCreate):
            self.name, self.history, self.created = body.name, body.history, record.at
            self._turn(record.signer, "owner", record.sequence)
        elif isinstance(body, RoomAdd):
            self._turn(body.user, body.role, record.sequence)
        elif isinstance(body, RoomRemove):
            self._turn(body.user, None, record.sequence)
        epoch = getattr(body, "epoch", None)
        if isinstance(epoch, Epoch):
            self.epochs[epoch.number] = EpochState(
                number=epoch.number,
                commitment=unb64u(epoch.commitment),
                previous=unb64u(epoch.previous) if epoch.previous else None,
                holders=recipients,
                began=record.sequence,
            )
        else:
            current = self.epoch
            self.epochs[current.number] = replace(current, holders=current.holders | recipients)
        self._heads.append(record.head)
        self.directory = record.directory.sequence if record.directory else self.directory

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
