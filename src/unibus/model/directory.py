"""The directory: who is on the bus, as a pure function of its log. The same code in the daemon and in every client.

Rules: the first record makes the bus and its first admin. Only an active admin admits or revokes; a user may revoke
themselves. An identity is admitted once in its life; a handle has one active holder. One admin is always left.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from unibus.crypto.heads import EMPTY, Head
from unibus.crypto.identity import Card, read_card
from unibus.errors import Forbidden, InvalidInput, MalformedRecord, NotAUser, RuleBroken
from unibus.model.bodies import BusCreate, Role, UserAdmit, UserRevoke
from unibus.model.records import DIRECTORY, Record, chain


@dataclass(frozen=True, slots=True)
class User:
    """One identity that was ever admitted. `revoked` is the number of the record that ended it, if any."""

    user: str
    handle: str
    role: Role
    sealing: bytes
    admitted: int
    revoked: int | None = None

    def active_at(self, sequence: int) -> bool:
        """Whether this user was on the bus right after the directory's record `sequence`."""
        return self.admitted <= sequence and (self.revoked is None or sequence < self.revoked)


class Directory:
    """The state after the records applied so far. `check` says whether a record may follow; `apply` adds it."""

    def __init__(self) -> None:
        self.bus: str | None = None
        self.users: dict[str, User] = {}
        self.last_revocation = 0
        self._heads: list[Head] = [EMPTY]
        self._handles: dict[str, str] = {}

    @property
    def head(self) -> Head:
        return self._heads[-1]

    def head_at(self, sequence: int) -> Head | None:
        """The head as it was after record `sequence`, or None if there is no such record yet."""
        return self._heads[sequence] if 0 < sequence < len(self._heads) else None

    def active(self, user: str) -> bool:
        """Whether `user` (`U…`) is on the bus now."""
        found = self.users.get(user)
        return found is not None and found.revoked is None

    def active_at(self, user: str, sequence: int) -> bool:
        """Whether `user` was on the bus after record `sequence`."""
        found = self.users.get(user)
        return found is not None and found.active_at(sequence)

    def revoked_at(self, user: str, sequence: int) -> bool:
        """Whether record `sequence`, or one before it, took `user` off the bus."""
        found = self.users.get(user)
        return found is not None and found.revoked is not None and found.revoked <= sequence

    def is_admin(self, user: str) -> bool:
        """Whether `user` is an active admin."""
        return self.active(user) and self.users[user].role == "admin"

    def by_handle(self, handle: str) -> User | None:
        """The active user of that handle."""
        user = self._handles.get(handle)
        return self.users[user] if user else None

    def handle_of(self, user: str) -> str:
        """A short name to show for `user`: the handle, or the key's beginning for who was never admitted."""
        found = self.users.get(user)
        return found.handle if found else user[:12] + "…"

    def check(self, record: Record) -> None:
        """Return if `record` may follow.

        Raises WrongBus, HeadConflict (not the next record), NotAUser, Forbidden (the signer), RuleBroken (the rules).
        """
        chain(record, self.bus, DIRECTORY, self.head)
        if record.directory is not None:
            raise MalformedRecord("a directory record names no directory head")
        body = record.body
        if isinstance(body, BusCreate) != (record.sequence == 1):
            raise RuleBroken("bus.create is the first record of a directory, and only that")
        if isinstance(body, BusCreate):
            if _card(body.card).user != record.signer:
                raise Forbidden("the first admin signs for their own card")
            return
        if not self.active(record.signer):
            raise NotAUser("the signer of this record is not an active user of the bus")
        if isinstance(body, UserAdmit):
            self._check_admit(record.signer, body)
        elif isinstance(body, UserRevoke):
            self._check_revoke(record.signer, body)

    def _check_admit(self, signer: str, body: UserAdmit) -> None:
        if not self.is_admin(signer):
            raise Forbidden("only an admin admits users")
        known = self.users.get(_card(body.card).user)
        if known is not None:
            state = f"on the bus already, as {known.handle}" if known.revoked is None else "revoked, and stays so"
            raise RuleBroken(f"this identity is {state}")
        if self.by_handle(body.handle):
            raise RuleBroken(f"the handle {body.handle} is taken")

    def _check_revoke(self, signer: str, body: UserRevoke) -> None:
        if signer != body.user and not self.is_admin(signer):
            raise Forbidden("only an admin revokes somebody else")
        if not self.active(body.user):
            raise RuleBroken("this user is not on the bus")
        others = (u for u in self.users.values() if u.revoked is None and u.role == "admin" and u.user != body.user)
        if next(others, None) is None:
            raise RuleBroken("the last admin cannot be revoked: admit another admin first")

    def apply(self, record: Record) -> None:
        """Add a record that `check` let through."""
        body = record.body
        if isinstance(body, BusCreate):
            self.bus = record.head.hash
            self._admit(_card(body.card), body.handle, "admin", record.sequence)
        elif isinstance(body, UserAdmit):
            self._admit(_card(body.card), body.handle, body.role, record.sequence)
        elif isinstance(body, UserRevoke):
            gone = self.users[body.user]
            self.users[body.user] = replace(gone, revoked=record.sequence)
            self.last_revocation = record.sequence
            del self._handles[gone.handle]
        self._heads.append(record.head)

    def _admit(self, card: Card, handle: str, role: Role, sequence: int) -> None:
        self.users[card.user] = User(card.user, handle, role, card.sealing, sequence)
        self._handles[handle] = card.user


def _card(text: str) -> Card:
    try:
        return read_card(text)
    except InvalidInput as error:
        raise MalformedRecord(f"a record carries a card that does not hold: {error}") from error


def reduce_directory(records: Iterable[Record]) -> Directory:
    """The directory that a whole log gives. Raises as `Directory.check` for the first record that may not stand."""
    directory = Directory()
    for record in records:
        directory.check(record)
        directory.apply(record)
    return directory
