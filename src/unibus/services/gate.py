"""The one place that says who may read what, and the bus's policy. Below HTTP and NATS, above the store.

Rights to write are the reducers', because clients check the same. Rights to read are here. An unknown room and a
foreign one are refused alike, so that nobody learns which rooms exist.
"""

from collections.abc import Sequence

from unibus.errors import Forbidden, InvalidInput, InviteWithdrawn, LimitReached, NotAUser, NotFound
from unibus.model.names import check_room_id
from unibus.model.room import Room
from unibus.services.books import Books
from unibus.services.ports import Grants
from unibus.store.port import Store

ROOMS_A_CONNECTION = 500
PAGE = 1000


def member_mark(user: str, room: str = "") -> str:
    """The name of the mark that says that `user` is in `room`; without a room, the prefix of all of them."""
    return f"member/{user}/{room}"


def retention_mark(room: str = "") -> str:
    """The name of the mark that holds what `room` keeps; without a room, the prefix of all of them."""
    return f"retention/{room}"


def check_invite_of_restored(books: Books, invite: str) -> None:
    """Raise InviteWithdrawn for an invite from before a restore: it may have been used since the backup was made."""
    found = books.directory.invites.get(invite)
    if found is not None and found.used is None and found.made <= books.restored:
        raise InviteWithdrawn("this bus was restored from a backup since this invite was made: ask for another")


class Gate:
    """Read rights on current state; implements the bus's `BusPolicy`."""

    def __init__(self, books: Books, store: Store) -> None:
        self._books = books
        self._store = store

    def user(self, actor: str) -> str:
        """`actor` if it is on the bus now. Raises NotAUser; StorageUnavailable when it cannot be known who is."""
        self._books.check_current()
        if not self._books.directory.active(actor):
            raise NotAUser
        return actor

    def admin(self, actor: str) -> str:
        """`actor` if it is an active admin now. Raises Forbidden."""
        self._books.check_current()
        if not self._books.directory.is_admin(actor):
            raise Forbidden("only an admin may do this")
        return actor

    async def room(self, actor: str, room: str) -> Room:
        """The room, for who is in it. Raises NotAUser, InvalidInput, NotFound."""
        self.user(actor)
        state = await self._books.room(check_room_id(room))
        if state.role(actor, self._books.directory) is None:
            raise NotFound("there is no such room for you")
        return state

    async def rooms(self, actor: str, after: str, limit: int) -> list[str]:
        """Up to `limit` ids of the rooms that `actor` is in, sorted, above `after`."""
        self.user(actor)
        prefix = member_mark(actor)
        marks = await self._store.marks(prefix, prefix + after, limit)
        return [name.removeprefix(prefix) for name, _ in marks]

    async def admit(self, user: str, rooms: Sequence[str] | None) -> Grants:
        """See `BusPolicy.admit`."""
        self.user(user)
        if rooms is None:
            rooms = await self.rooms(user, "", ROOMS_A_CONNECTION + 1)
        if len(rooms) > ROOMS_A_CONNECTION:
            raise LimitReached(
                f"a connection carries at most {ROOMS_A_CONNECTION} rooms: name those it opens, "
                "as rooms=<id>,<id> in the connection's token"
            )
        states = [await self._known(room) for room in dict.fromkeys(rooms)]
        # Judged only now, all at one instant: a removal or a revocation may have come while the rooms were read.
        self.user(user)
        directory = self._books.directory
        live = [state for state in states if state and not state.archived and state.role(user, directory)]
        return Grants(
            user,
            write=tuple(state.id for state in live if state.may_write(user, directory)),
            read=tuple(state.id for state in live),
        )

    async def _known(self, room: str) -> Room | None:
        try:
            return await self._books.room(check_room_id(room))
        except (NotFound, InvalidInput):
            return None

    async def may_read(self, user: str, room: str) -> None:
        """See `BusPolicy.may_read`."""
        await self.room(user, room)
