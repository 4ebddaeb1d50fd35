"""The directory's rules, one function a record type: return if the record may stand, else raise why not.

Forbidden is for who signs; RuleBroken for what is asked, whoever signs; the Invite errors tell used, expired, withdrawn
and unknown invites apart. Changes nothing.
"""

from collections.abc import Callable, Mapping
from typing import Any

from unibus.errors import (
    Forbidden,
    InviteExpired,
    InviteUnknown,
    InviteUsed,
    InviteWithdrawn,
    NotAUser,
    RuleBroken,
)
from unibus.model.bodies import (
    BusCreate,
    InviteCreate,
    InviteWithdraw,
    Strict,
    UserAdmit,
    UserJoin,
    UserRename,
    UserRevoke,
    UserRole,
)
from unibus.model.directory_state import DirectoryState, Invite
from unibus.model.records import Record

CLOCK_SLACK = 300  # seconds that two people's clocks may differ


def open_invite(state: DirectoryState, invite: str, at: int) -> Invite:
    """The invite, if it can be used at the Unix time `at`. Raises InviteUnknown, -Used, -Withdrawn, -Expired."""
    found = state.invites.get(invite)
    if found is None:
        raise InviteUnknown
    if found.used is not None:
        raise InviteUsed
    if found.withdrawn or not state.is_admin(found.inviter):
        raise InviteWithdrawn
    # A later record by an admin shows that the time is over, whatever the newcomer's clock is said to be.
    if max(at, state.latest - CLOCK_SLACK) > found.expires:
        raise InviteExpired
    return found


def _admin(state: DirectoryState, record: Record, what: str) -> None:
    if not state.is_admin(record.signer):
        raise Forbidden(f"only an admin {what}")


def _on_bus(state: DirectoryState, user: str) -> None:
    if not state.active(user):
        raise RuleBroken("this user is not on the bus")


def _free(state: DirectoryState, handle: str) -> None:
    if state.by_handle(handle):
        raise RuleBroken(f"the handle {handle} is taken")


def _newcomer(state: DirectoryState, user: str) -> None:
    known = state.users.get(user)
    if known is not None:
        what = f"on the bus already, as {known.handle}" if known.revoked is None else "revoked, and stays so"
        raise RuleBroken(f"this identity is {what}")


def _create(_state: DirectoryState, record: Record, _body: BusCreate) -> None:
    if record.newcomer.user != record.signer:
        raise Forbidden("the first admin signs for their own card")


def _admit(state: DirectoryState, record: Record, body: UserAdmit) -> None:
    _admin(state, record, "admits users")
    _newcomer(state, record.newcomer.user)
    _free(state, body.handle)


def _revoke(state: DirectoryState, record: Record, body: UserRevoke) -> None:
    if record.signer != body.user:
        _admin(state, record, "revokes somebody else")
    _on_bus(state, body.user)
    if not state.other_admin(body.user):
        raise RuleBroken("the last admin cannot be revoked: make somebody else an admin first")


def _role(state: DirectoryState, record: Record, body: UserRole) -> None:
    _admin(state, record, "changes roles")
    _on_bus(state, body.user)
    if state.users[body.user].role == body.role:
        raise RuleBroken(f"this user has the role {body.role} already")
    if body.role != "admin" and not state.other_admin(body.user):
        raise RuleBroken("the last admin stays one: make somebody else an admin first")


def _rename(state: DirectoryState, record: Record, body: UserRename) -> None:
    if record.signer != body.user:
        _admin(state, record, "renames somebody else")
    _on_bus(state, body.user)
    _free(state, body.handle)


def _invite(state: DirectoryState, record: Record, body: InviteCreate) -> None:
    _admin(state, record, "invites")
    if body.invite in state.invites or body.invite in state.users:
        raise RuleBroken("this key was used before: an invite has a fresh one")
    if body.expires <= record.at:
        raise RuleBroken("an invite ends after it begins")
    if body.handle is not None:
        _free(state, body.handle)


def _withdraw(state: DirectoryState, record: Record, body: InviteWithdraw) -> None:
    _admin(state, record, "withdraws invites")
    open_invite(state, body.invite, 0)


def _join(state: DirectoryState, record: Record, body: UserJoin) -> None:
    user = record.newcomer.user
    if user != record.signer:
        raise Forbidden("who joins signs for their own card")
    invite = open_invite(state, body.invite, record.at)
    if not record.invited:
        raise Forbidden("the invite's proof does not hold for this identity")
    if invite.handle not in {None, body.handle}:
        raise RuleBroken(f"this invite is for the handle {invite.handle}")
    _newcomer(state, user)
    _free(state, body.handle)


RULES: Mapping[type[Strict], Callable[[DirectoryState, Record, Any], None]] = {
    BusCreate: _create,
    UserAdmit: _admit,
    UserRevoke: _revoke,
    UserRole: _role,
    UserRename: _rename,
    InviteCreate: _invite,
    InviteWithdraw: _withdraw,
    UserJoin: _join,
}


def check_directory(state: DirectoryState, record: Record) -> None:
    """Return if `record`, whose place in the log is right, may stand."""
    body = record.body
    if isinstance(body, BusCreate) != (record.sequence == 1):
        raise RuleBroken("bus.create is the first record of a directory, and only that")
    if not isinstance(body, BusCreate | UserJoin) and not state.active(record.signer):
        raise NotAUser("the signer of this record is not an active user of the bus")
    RULES[type(body)](state, record, body)
