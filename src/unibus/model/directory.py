"""The directory: who is on the bus, as a pure function of its log. The same code in the daemon and in every client.

Rules (`directory_rules`): the first record makes the bus and its first admin. Only an active admin admits, invites,
revokes and changes roles; a user may revoke and rename themselves; who was invited signs their own joining. An identity
is admitted once in its life; a handle has one active holder. One admin is always left.
"""

from collections.abc import Iterable
from dataclasses import replace

from unibus.crypto.identity import Card
from unibus.errors import MalformedRecord
from unibus.model.bodies import (
    BusCreate,
    InviteCreate,
    InviteWithdraw,
    Role,
    UserAdmit,
    UserJoin,
    UserRename,
    UserRevoke,
    UserRole,
)
from unibus.model.directory_rules import check_directory
from unibus.model.directory_state import DirectoryState, Invite, User
from unibus.model.records import DIRECTORY, Record, chain

__all__ = ["Directory", "Invite", "User", "reduce_directory"]


class Directory(DirectoryState):
    """The state, and the two ways to extend it: `check` says whether a record may follow; `apply` adds it."""

    def check(self, record: Record) -> None:
        """Return if `record` may follow.

        Raises WrongBus, HeadConflict (not the next record), NotAUser, Forbidden (the signer), RuleBroken (the rules),
        InviteUnknown, InviteUsed, InviteWithdrawn, InviteExpired.
        """
        chain(record, self.bus, DIRECTORY, self.head)
        if record.directory is not None:
            raise MalformedRecord("a directory record names no directory head")
        check_directory(self, record)

    def apply(self, record: Record) -> None:
        """Add a record that `check` let through."""
        match record.body:
            case BusCreate() as body:
                self.bus = record.head.hash
                self._admit(record.newcomer, body.handle, "admin", record.sequence)
            case UserAdmit() as body:
                self._admit(record.newcomer, body.handle, body.role, record.sequence)
            case UserJoin() as body:
                invite = self.invites[body.invite]
                self._admit(record.newcomer, body.handle, invite.role, record.sequence)
                self.invites[body.invite] = replace(invite, used=record.signer)
            case UserRevoke(user=user):
                del self._handles[self.users[user].handle]
                self.users[user] = replace(self.users[user], revoked=record.sequence)
                self.last_revocation = record.sequence
            case UserRole(user=user, role=role):
                self.users[user] = replace(self.users[user], role=role)
            case UserRename(user=user, handle=handle):
                del self._handles[self.users[user].handle]
                self._handles[handle] = user
                self.users[user] = replace(self.users[user], handle=handle)
            case InviteCreate() as body:
                self.invites[body.invite] = Invite(
                    body.invite, body.role, body.expires, body.handle, inviter=record.signer, made=record.at
                )
            case InviteWithdraw(invite=key):
                self.invites[key] = replace(self.invites[key], withdrawn=True)
        if self.is_admin(record.signer):
            self.latest = max(self.latest, record.at)
        self._heads.append(record.head)

    def _admit(self, card: Card, handle: str, role: Role, sequence: int) -> None:
        self.users[card.user] = User(card.user, handle, role, card.sealing, sequence)
        self._handles[handle] = card.user


def reduce_directory(records: Iterable[Record]) -> Directory:
    """The directory that a whole log gives. Raises as `Directory.check` for the first record that may not stand."""
    directory = Directory()
    for record in records:
        directory.check(record)
        directory.apply(record)
    return directory
