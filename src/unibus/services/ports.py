"""What services and the bus ask of each other, as ports. Values only; neither side knows the other's insides."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unibus.errors import UnibusError


@dataclass(frozen=True, slots=True)
class Grants:
    """What one bus connection of `user` (a public nkey) may do.

    `write` are the rooms it may publish into, `read` those whose signals it may hear. What is stored is read by
    deliveries, which each ask for themselves.
    """

    user: str
    write: tuple[str, ...]
    read: tuple[str, ...] = ()


Decided = Callable[[str, str, UnibusError | None], None]
"""Hears of each bus connection that was decided on: who it says it is, from where, and why it was refused if it was.

Who that is proven to be is in `services.audit.ACTOR` meanwhile.
"""

Undelivered = Callable[[str, str | None, UnibusError], None]
"""Hears of each delivery that was refused: whose it would have been, of which room if that is known, and why."""

Scaled = Callable[[str, str, str, int], Awaitable[None]]
"""Hears before an operator's own tool has a stream kept on more nodes: whose tool, where it is, which stream, and on
how many. Raises StorageUnavailable, and nothing is done then.
"""


Taken = tuple[str, str | None]
"""Somebody who has lost something: a user, and the room, or None for all that there is."""


class BusPolicy(Protocol):
    """What the bus asks of the services: who may connect, and what may they touch. Decided on current state."""

    async def admit(self, user: str, rooms: Sequence[str] | None) -> Grants:
        """The grants of a new connection of `user` that opens `rooms`, or all of its rooms if None.

        Rooms named that the user is not in, or that are archived, are left out. Raises NotAUser, or LimitReached when
        there are more rooms than one connection can carry (the message says how many, and to name the rooms it opens).
        """

    async def may_read(self, user: str, room: str) -> None:
        """Return if `user` may read `room` now. Raises NotAUser or NotFound, the same for unknown and foreign rooms."""


class BusEffects(Protocol):
    """What the services ask of the bus after an append. None of these raises because a client is away."""

    async def announce(self, users: Collection[str], log: str, sequence: int, digest: str) -> None:
        """Tell `users` that `log` has a new head."""

    async def withdraw(self, user: str, room: str) -> None:
        """Take `room` from `user` now: its deliveries of that room end, connections that carry it are cut."""

    async def cut(self, user: str) -> None:
        """Cut `user` off now: every delivery and every connection, approved or still being approved."""

    async def took_effect(self, log: str, position: int, taken: Collection[Taken]) -> None:
        """Return once the record, by which this was `taken`, has taken effect on all other nodes that are there.

        After some seconds also if it has not; what nodes that are silent then deliver of it is ended from here.
        """

    async def retain(self, room: str, seconds: int | None, size: int | None) -> None:
        """Drop the room's messages that are older than `seconds`, and the oldest above `size` bytes; None is no limit.

        What cannot be dropped now is dropped when this is asked again.
        """


@dataclass(frozen=True, slots=True)
class StreamState:
    """What a stream holds: how many messages, their bytes, and the sequence numbers of the first and the last."""

    messages: int
    bytes: int
    first: int
    last: int


class MessageDrop(Protocol):
    """What is asked of the bus when nobody is left to read a room."""

    async def drop(self, room: str) -> int:
        """Drop all messages of `room`; how many there were. Raises BusUnavailable."""


class MessageCopies(Protocol):
    """What a backup asks of the bus."""

    async def snapshot(self, path: Path) -> StreamState:
        """Write all messages as they are at one moment to the new file `path`. Raises BusUnavailable, OSError."""


class ClusterPlace(Protocol):
    """What is asked of the cluster itself."""

    async def keep_on(self, replicas: int) -> None:
        """Keep everything on so many nodes. Raises RuleBroken when that cannot be, BusUnavailable."""

    async def give_up(self, node: str) -> None:
        """Go on without `node` for good. Raises BusUnavailable."""


class MessagesPlace(Protocol):
    """What a move asks of the bus that it moves messages into."""

    async def holds(self, state: StreamState) -> bool:
        """Whether the messages of this bus are `state`. Raises BusUnavailable."""

    async def take_in(self, path: Path, state: StreamState) -> None:
        """Make the messages in the snapshot `path`, which are `state`, those of this bus, with their sequence numbers.

        Does nothing if they are there. Raises RuleBroken when others are, BackupInvalid for a file that is not what
        `state` says, BusUnavailable, OSError.
        """
