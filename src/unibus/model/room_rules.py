"""A room's rules, one function a record type: return if the record may stand, else raise why not.

Forbidden is for who signs; RuleBroken for what is asked, whoever signs. Changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from unibus.crypto.heads import Head
from unibus.errors import Forbidden, RuleBroken
from unibus.model.bodies import (
    Epoch,
    RoomAdd,
    RoomArchive,
    RoomCreate,
    RoomLeave,
    RoomRemove,
    RoomRename,
    RoomRetention,
    RoomRotate,
    RoomSetRole,
    Strict,
)
from unibus.model.directory import Directory
from unibus.model.names import room_name_stands
from unibus.model.records import Record, room_id
from unibus.model.room_state import WRITERS, RoomState


class Case:
    """One record to be judged: the room before it, the directory, and the head of that which the record names."""

    def __init__(self, state: RoomState, record: Record, directory: Directory, named: Head) -> None:
        self.state = state
        self.record = record
        self.directory = directory
        self.named = named

    @property
    def signer(self) -> str:
        return self.record.signer

    def on_bus(self, user: str) -> bool:
        """Whether `user` was on the bus at the head that the record names."""
        return self.directory.active_at(user, self.named.sequence)

    def owner(self, what: str) -> None:
        """Raise Forbidden unless an owner signs."""
        if self.state.roles.get(self.signer) != "owner":
            raise Forbidden(f"only an owner {what}")

    def member(self, user: str) -> None:
        """Raise RuleBroken unless `user` is in the room."""
        if user not in self.state.roles:
            raise RuleBroken("this user is not in the room")

    def owner_besides(self, user: str) -> bool:
        """Whether an owner who is on the bus is left without `user`."""
        roles = self.state.roles.items()
        return any(role == "owner" and who != user and self.on_bus(who) for who, role in roles)

    def epoch(self, epoch: Epoch) -> None:
        """Raise RuleBroken unless `epoch` is the next one, linked as the room's history wants it."""
        following = len(self.state.epochs) + 1
        if epoch.number != following:
            raise RuleBroken(f"the next epoch is {following}")
        if (epoch.previous is not None) != (self.state.history == "shared" and epoch.number > 1):
            raise RuleBroken("an epoch links to the one before exactly where history is shared")


def _name(name: str) -> None:
    if not room_name_stands(name):
        raise RuleBroken("this cannot be shown as a room's name")


def _create(case: Case, body: RoomCreate) -> None:
    if room_id(case.state.bus, case.signer, body.salt) != case.state.id:
        raise RuleBroken("a room's id follows from its creator and salt, and this one does not")
    _name(body.name)
    case.epoch(body.epoch)


def _add(case: Case, body: RoomAdd) -> None:
    case.owner("adds members")
    if body.user in case.state.roles:
        raise RuleBroken("this user is in the room already")
    if not case.on_bus(body.user):
        raise RuleBroken("this user is not on the bus")
    if body.epoch is not None:
        case.epoch(body.epoch)
    elif case.state.history == "since-join":
        raise RuleBroken("in a room with since-join history an addition starts an epoch")


def _remove(case: Case, body: RoomRemove) -> None:
    case.owner("removes members")
    case.member(body.user)
    if body.user == case.signer:
        # They would make the next key, and have it still. So whoever removes is an owner who is left.
        raise RuleBroken("who goes leaves the room, and makes no key for those who stay")
    case.epoch(body.epoch)


def _rotate(case: Case, body: RoomRotate) -> None:
    if case.state.roles.get(case.signer) not in WRITERS:
        raise Forbidden("only who may write in the room starts an epoch")
    case.epoch(body.epoch)


def _leave(case: Case, body: RoomLeave) -> None:
    case.member(case.signer)
    if body.successor is not None:
        case.owner("names a successor")
        if body.successor == case.signer or body.successor not in case.state.roles or not case.on_bus(body.successor):
            raise RuleBroken("a successor is another member of the room")
    elif not case.owner_besides(case.signer):
        raise RuleBroken("the last owner names a successor on leaving, or archives the room")


def _set_role(case: Case, body: RoomSetRole) -> None:
    if not case.owner_besides("") and case.state.roles.get(case.signer) == "member":
        # Every owner was taken off the bus. Whoever writes here may step in, for themselves only.
        if (body.user, body.role) != (case.signer, "owner"):
            raise Forbidden("in a room without an owner a member may become one, and nothing else")
        return
    case.owner("changes roles")
    case.member(body.user)
    if case.state.roles[body.user] == body.role:
        raise RuleBroken(f"this user has the role {body.role} already")
    if body.role != "owner" and not case.owner_besides(body.user):
        raise RuleBroken("a room keeps at least one owner")


def _rename(case: Case, body: RoomRename) -> None:
    case.owner("renames the room")
    _name(body.name)


def _retention(case: Case, _body: RoomRetention) -> None:
    case.owner("says what is kept")


def _archive(case: Case, _body: RoomArchive) -> None:
    case.owner("archives the room")


RULES: Mapping[type[Strict], Callable[[Case, Any], None]] = {
    RoomCreate: _create,
    RoomAdd: _add,
    RoomRemove: _remove,
    RoomRotate: _rotate,
    RoomLeave: _leave,
    RoomSetRole: _set_role,
    RoomRename: _rename,
    RoomRetention: _retention,
    RoomArchive: _archive,
}


def check_room(state: RoomState, record: Record, directory: Directory, named: Head) -> None:
    """Return if `record`, whose place in the log is right and whose signer was on the bus, may stand."""
    body = record.body
    if isinstance(body, RoomCreate) != (record.sequence == 1):
        raise RuleBroken("room.create is the first record of a room, and only that")
    if state.archived:
        raise RuleBroken("this room is archived: nothing is added to it")
    RULES[type(body)](Case(state, record, directory, named), body)
