"""What a room is after its records: members, roles, epochs, heads. Questions only; `room` changes it."""

from bisect import bisect_right
from collections.abc import Set
from dataclasses import dataclass

from unibus.crypto.heads import Head
from unibus.crypto.roomkey import EpochRef
from unibus.model.bodies import History, RoomAdd, RoomCreate, RoomRemove, RoomRetention, RoomRole
from unibus.model.directory import Directory
from unibus.model.log_heads import LogHeads
from unibus.model.records import Record

WRITERS: frozenset[RoomRole] = frozenset({"owner", "member"})


@dataclass(slots=True)
class EpochState:
    """One epoch: its commitment and link, the record that began it, and whose the key is, by what is otherwise.

    `came` hold its key and not that of the epoch before, `gone` that one and not this one: all holders of all epochs
    would be the members times the epochs.
    """

    number: int
    commitment: bytes
    previous: bytes | None
    began: int
    came: set[str]
    gone: set[str]


class RoomState:
    """The state after the records applied so far. `archived` is the number of the record that closed it, or 0."""

    def __init__(self, bus: str, room: str) -> None:
        self.bus = bus
        self.id = room
        self.name = ""
        self.history: History = "shared"
        self.retention = RoomRetention()
        self.retentions: list[RoomRetention] = []  # all that there were: what is gone may have gone by any of them
        self.roles: dict[str, RoomRole] = {}
        self.epochs: dict[int, EpochState] = {}
        self.directory = 0
        self.created = 0
        self.archived = 0
        self._heads = LogHeads()
        self._holders: set[str] = set()
        self._turns: dict[str, list[tuple[int, RoomRole | None]]] = {}

    @property
    def head(self) -> Head:
        return self._heads.last

    def head_at(self, sequence: int) -> Head | None:
        """The head as it was after record `sequence`, or None if there is no such record yet."""
        return self._heads.at(sequence)

    def role_at(self, user: str, sequence: int) -> RoomRole | None:
        """The role that the room's log gave `user` after record `sequence`; says nothing about the directory."""
        turns = self._turns.get(user, [])
        index = bisect_right(turns, sequence, key=lambda turn: turn[0])
        return turns[index - 1][1] if index else None

    def left_at(self, user: str, sequence: int, *, since: int = 0) -> bool:
        """Whether `user` was out of the room after record `sequence`, and had left it after record `since`."""
        turns = self._turns.get(user, [])
        index = bisect_right(turns, sequence, key=lambda turn: turn[0])
        return index > 0 and turns[index - 1][1] is None and turns[index - 1][0] > since

    def could_write(self, user: str, sequence: int) -> bool:
        """Whether `user` could send into the room after record `sequence`, as far as the room's log says."""
        open_then = not self.archived or sequence < self.archived
        return open_then and self.role_at(user, sequence) in WRITERS

    def epoch_at(self, sequence: int) -> int:
        """The number of the epoch that was current after record `sequence`."""
        return bisect_right(range(1, len(self.epochs) + 1), sequence, key=lambda number: self.epochs[number].began)

    @property
    def epoch(self) -> EpochState:
        """The current epoch; a room without records has none and raises KeyError."""
        return self.epochs[len(self.epochs)]

    def holders(self, number: int | None = None) -> Set[str]:
        """Who was given the key of epoch `number`, or of the current one; nobody for one that has not begun."""
        if number is not None and not 0 < number <= len(self.epochs):
            return frozenset()
        held: Set[str] = self._holders
        for later in range(len(self.epochs), number or len(self.epochs), -1):
            held = (held - self.epochs[later].came) | self.epochs[later].gone
        return held

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
        return not self.archived and self.role(user, directory) in WRITERS

    def rotation_due(self, directory: Directory) -> bool:
        """Whether somebody holds the current key who is not a member any more: rotate before anything is sent."""
        return any(user not in self.roles or not directory.active(user) for user in self._holders)

    def recipients(self, record: Record, directory: Directory) -> frozenset[str]:
        """To whom the sealed keys of `record`, which `check` let through, must go: exactly these."""
        named = record.directory
        body = record.body
        if isinstance(body, RoomCreate):
            return frozenset({record.signer})
        if isinstance(body, RoomAdd) and body.epoch is None:
            return frozenset({body.user})
        if getattr(body, "epoch", None) is None:
            return frozenset()
        members = set(self.roles)
        if isinstance(body, RoomAdd):
            members.add(body.user)
        elif isinstance(body, RoomRemove):
            members.discard(body.user)
        return frozenset(user for user in members if named and directory.active_at(user, named.sequence))
