"""What must happen on the bus after a record was appended: a pure function of the record and the state after it.

Cutting comes before announcing: when anybody hears of a removal, the removed user can already send nothing more.
Never does anything itself; `perform` is the thin edge that hands the actions to the bus.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from unibus.crypto.heads import Head
from unibus.model.bodies import RoomArchive, RoomLeave, RoomRemove, RoomRetention, RoomSetRole, UserRevoke
from unibus.model.directory import Directory
from unibus.model.records import DIRECTORY, Record
from unibus.model.room import Room
from unibus.services.ports import BusEffects, Taken


@dataclass(frozen=True, slots=True)
class Cut:
    """End everything that `user` has on the bus."""

    user: str


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take one room from one user."""

    user: str
    room: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell `users` of a log's new head."""

    users: frozenset[str]
    log: str
    head: Head


@dataclass(frozen=True, slots=True)
class Retain:
    """Drop what a room no longer keeps."""

    room: str
    seconds: int | None
    size: int | None


Action = Retain | Cut | Withdraw | Announce


def after_directory(record: Record, directory: Directory) -> Sequence[Action]:
    """The actions that follow from a directory record which `directory` has just applied."""
    active = frozenset(user for user in directory.users if directory.active(user))
    announce = Announce(active, DIRECTORY, record.head)
    if isinstance(record.body, UserRevoke):
        return (Cut(record.body.user), announce)
    return (announce,)


def after_room(record: Record, room: Room, directory: Directory) -> Sequence[Action]:
    """The actions that follow from a room record which `room` has just applied."""
    members = frozenset(room.members(directory))
    poorer = _who_may_less(record, members)
    # Who was removed hears of it too, and finds the room closed when they look.
    announce = Announce(members | poorer, record.log, record.head)
    return (*(Withdraw(user, room.id) for user in sorted(poorer)), announce, *_retain(record, room))


def _retain(record: Record, room: Room) -> Sequence[Action]:
    if isinstance(record.body, RoomRetention):
        return (Retain(room.id, record.body.seconds, record.body.bytes),)
    return ()


def _who_may_less(record: Record, members: frozenset[str]) -> frozenset[str]:
    match record.body:
        case RoomRemove(user=user):
            return frozenset({user})
        case RoomLeave():
            return frozenset({record.signer})
        case RoomSetRole(user=user, role="reader"):
            return frozenset({user})
        case RoomArchive():
            return members
        case _:
            return frozenset()


def taken_by(actions: Sequence[Action]) -> list[Taken]:
    """What `actions` take, and from whom."""
    cut: list[Taken] = [(action.user, None) for action in actions if isinstance(action, Cut)]
    return cut + [(action.user, action.room) for action in actions if isinstance(action, Withdraw)]


async def perform(actions: Sequence[Action], effects: BusEffects) -> None:
    """Carry out `actions` in order."""
    for action in actions:
        match action:
            case Cut(user):
                await effects.cut(user)
            case Withdraw(user, room):
                await effects.withdraw(user, room)
            case Retain(room, seconds, size):
                await effects.retain(room, seconds, size)
            case Announce(users, log, head):
                await effects.announce(users, log, head.sequence, head.hash)
