"""What a directory is after its records: users, handles, invites, heads. Questions only; `directory` changes it."""

from dataclasses import dataclass

from unibus.crypto.heads import Head
from unibus.model.bodies import Role
from unibus.model.log_heads import LogHeads


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


@dataclass(frozen=True, slots=True)
class Invite:
    """One invite that was ever made. `made` and `expires` are in Unix seconds; `used` is who joined by it."""

    invite: str
    role: Role
    expires: int
    handle: str | None
    inviter: str
    made: int
    used: str | None = None
    withdrawn: bool = False


class DirectoryState:
    """The state after the records applied so far."""

    def __init__(self) -> None:
        self.bus: str | None = None
        self.users: dict[str, User] = {}
        self.invites: dict[str, Invite] = {}
        self.last_revocation = 0
        self.latest = 0
        """The latest time that an admin's record names, Unix seconds; other people's clocks are not gone by."""
        self._heads = LogHeads()
        self._handles: dict[str, str] = {}

    @property
    def head(self) -> Head:
        return self._heads.last

    def head_at(self, sequence: int) -> Head | None:
        """The head as it was after record `sequence`, or None if there is no such record yet."""
        return self._heads.at(sequence)

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

    def other_admin(self, user: str) -> bool:
        """Whether there is an active admin besides `user`."""
        return any(u.revoked is None and u.role == "admin" for u in self.users.values() if u.user != user)

    def by_handle(self, handle: str) -> User | None:
        """The active user of that handle."""
        user = self._handles.get(handle)
        return self.users[user] if user else None

    def handle_of(self, user: str) -> str:
        """A short name to show for `user`: the handle, or the key's beginning for who was never admitted."""
        found = self.users.get(user)
        return found.handle if found else user[:12] + "…"
