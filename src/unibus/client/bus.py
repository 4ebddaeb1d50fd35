"""The bus as the application uses it: `async with connect(url, identity) as bus`.

Wires the client's parts together and holds what they share. What the server says is verified by `Replica`; the NATS
connection is made when the first message is sent or read.
"""

import contextlib
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

from yarl import URL

from unibus.client.api import DEADLINE, ControlApi
from unibus.client.changes import Change, Signer
from unibus.client.following import Following
from unibus.client.keeping import Keeper
from unibus.client.keyring import Keyring
from unibus.client.link import Link
from unibus.client.memory import Memory
from unibus.client.messages import Refusal
from unibus.client.nodes import parse_urls
from unibus.client.races import until_first
from unibus.client.replica import Replica
from unibus.client.room import Room, room_named
from unibus.client.served import served_bus
from unibus.client.trust import chosen_context, make_context
from unibus.crypto.identity import Identity
from unibus.crypto.invites import InviteToken
from unibus.crypto.nkeys import SigningKey
from unibus.errors import (
    HeadConflict,
    InvalidInput,
    InviteUnknown,
    NotAUser,
    NotFound,
    TlsDowngraded,
    Untrusted,
    WrongBus,
)
from unibus.model.bodies import History, Role, RoomLeave
from unibus.model.directory import Directory, User
from unibus.model.names import ROOM_ID
from unibus.model.records import DIRECTORY, ROOM_PREFIX, read_record

INVITE_SECONDS = 3600

log = logging.getLogger("unibus.client")


class Bus:
    """One identity's view of one bus. Made by `connect`."""

    def __init__(
        self, api: ControlApi, identity: Identity, memory: Memory, bus: str, *, plain_bus: bool = False
    ) -> None:
        self.id = bus
        self._plain_bus = plain_bus
        self._linked_by = api.nodes.current
        api.nodes.on_leave = self._left
        self.identity = identity
        self.api = api
        self.replica = Replica(api, memory, bus)
        self.keyring = Keyring(api, identity)
        self.keeper = Keeper(memory)
        self._rooms: dict[str, Room] = {}
        self.following = Following(self.replica, self._rooms)
        self.link = Link(
            identity,
            locate=self._locate,
            allowed=self._still_allowed,
            may_hear=self._may_hear,
            may_write=self._may_write,
            on_event=self.following.announced,
            on_up=self.following.catch_up,
            leave=self._leave,
        )

    @property
    def user(self) -> str:
        """This identity's public nkey."""
        return self.identity.user

    @property
    def directory(self) -> Directory:
        """The verified directory, as new as the last announcement that was followed."""
        return self.replica.directory

    def signer(self) -> Signer:
        """What signs changes as this identity, now."""
        return Signer(self.identity, int(time.time()), secrets.token_bytes)

    def find(self, handle: str, among: Collection[str] | None = None) -> User:
        """The user called `handle` (or with that public nkey).

        `among`, if given, are the only users meant, and the revoked are found among them too. Raises NotFound.
        """
        known = self.directory.users
        if among is None:
            found = self.directory.by_handle(handle) or known.get(handle)
            if found is not None and found.revoked is None:
                return found
            raise NotFound(f"there is no user {handle!r}: see unibus user list")
        meant = [known[user] for user in among if handle in {user, known[user].handle}]
        if not meant:
            raise NotFound(f"{handle!r} is not in this room: see unibus room show")
        # A handle can be given anew: it means who has it, and not who had it and was revoked.
        return min(meant, key=lambda user: user.revoked is not None)

    async def users(self) -> list[User]:
        """All active users, by handle."""
        directory = await self.replica.sync_directory()
        return sorted((u for u in directory.users.values() if u.revoked is None), key=lambda user: user.handle)

    async def admit(self, handle: str, card: str, role: Role = "member") -> None:
        """Let the identity behind `card` onto the bus as `handle`. Raises Forbidden, RuleBroken, InvalidInput."""

        async def build() -> Change:
            return self.signer().admit(self.directory, handle, card, role)

        await self.append(build)

    async def revoke(self, handle: str) -> None:
        """Take a user off the bus for good. Rooms they were in change their key before the next message."""
        user = self.find(handle).user

        async def build() -> Change:
            return self.signer().revoke(self.directory, user)

        await self.append(build)

    async def change_role(self, handle: str, role: Role) -> None:
        """Make a user an admin or a plain member. Raises Forbidden, RuleBroken."""
        user = self.find(handle).user

        async def build() -> Change:
            return self.signer().change_role(self.directory, user, role)

        await self.append(build)

    async def rename(self, handle: str, new: str) -> None:
        """Give a user another handle; one's own, or as an admin anybody's. Raises Forbidden, RuleBroken."""
        user = self.find(handle).user

        async def build() -> Change:
            return self.signer().rename(self.directory, user, new)

        await self.append(build)

    async def invite(
        self, role: Role = "member", *, seconds: int = INVITE_SECONDS, handle: str | None = None, url: str | None = None
    ) -> InviteToken:
        """An invite that is good once, for `seconds`; its token is for the newcomer's eyes only.

        `url` is the daemon's address as the newcomer sees it, else those that this client was given.
        Raises Forbidden, RuleBroken, InvalidInput.
        """
        nodes = self.api.nodes.given if url is None else parse_urls(url)
        key = SigningKey.from_seed(secrets.token_bytes(32))

        async def build() -> Change:
            signer = self.signer()
            return signer.invite(self.directory, key.public, role, signer.at + seconds, handle)

        await self.append(build)
        return InviteToken(self.id, key, ",".join(str(node).rstrip("/") for node in nodes))

    async def withdraw_invite(self, invite: str) -> None:
        """Take back an invite, named by its public key, that nobody has used yet. Raises the Invite errors."""

        async def build() -> Change:
            if invite not in self.directory.invites:
                raise InviteUnknown(f"there is no invite {invite!r}: see unibus user invites")
            return self.signer().withdraw_invite(self.directory, invite)

        await self.append(build)

    async def create_room(self, name: str, history: History = "shared", *, unique: bool = False) -> Room:
        """Make a room with this identity as its owner. Raises InvalidInput for a name that cannot be shown.

        With `unique` also for a name that would be ambiguous; all rooms of this identity are looked through for that.
        """
        if unique:
            await self.check_unused(name)
        made: list[str] = []

        async def build() -> Change:
            room, change = self.signer().create_room(self.directory, name, history)
            made.append(room)
            return change

        await self.append(build)
        return self._opened(made[-1])

    async def rooms(self) -> list[Room]:
        """The rooms that this identity is in, verified, by name."""
        found: list[Room] = []
        after = ""
        while True:
            page = await self.api.rooms(after)
            before = len(found)
            for room in page.rooms:
                if after and room <= after:
                    raise Untrusted("the server's list of rooms goes round in circles")
                after = room
                with contextlib.suppress(NotFound):  # removed from it since the page was made
                    found.append(await self._room(room))
            if page.next is None:
                return sorted(found, key=lambda room: (room.name, room.id))
            if page.next != after or len(found) == before:
                raise Untrusted("the server's list of rooms goes on, and there are no rooms in it")

    async def check_unused(self, name: str) -> None:
        """Raise InvalidInput if this identity is in a room called `name` that is not archived.

        Rooms that it is not in may be called so: it cannot know, and it may be added to one at any time.
        """
        for room in await self.rooms():
            if room.name == name and not room.state.archived:
                raise InvalidInput(
                    f"you are in a room called {name!r} already, {room.id}: take another name, archive or rename that "
                    "room, or say --same-name and name both by their ids from then on"
                )

    async def room(self, name: str) -> Room:
        """The room with the id `name`, or if that is no id the one called so: one that is archived only if no other is.

        Raises NotFound. By its id it is found at once; by its name, all rooms of this identity are looked through.
        """
        # A name may be anything. Who names an id must never get a room that is called so, made by who knows whom.
        return await self._room(name) if ROOM_ID.fullmatch(name) else room_named(await self.rooms(), name)

    async def _room(self, room: str) -> Room:
        await self.replica.sync_room(room)
        return self._opened(room)

    def _opened(self, room: str) -> Room:
        state = self.replica.rooms[room]
        if state.role(self.user, self.directory) is None:
            raise Untrusted(f"the server shows a room that this identity is not in: {state.id}")
        if room not in self._rooms:
            self._rooms[room] = Room(self, room)
            self.link.carry(room)
        return self._rooms[room]

    async def append(self, build: Callable[[], Awaitable[Change]], room: str | None = None) -> None:
        """Bring logs up to date, build a change on their heads, append it; again when another was first."""

        async def attempt() -> None:
            await self.replica.sync_directory()
            if room is not None:
                await self.replica.sync_room(room)
            change = await build()
            try:
                await self.api.append(change.log, change.record, change.sealed)
            except HeadConflict:
                # The answer to a try before may have been lost, and then another record came: signed again, the same
                # change would be made twice.
                if not await self._stands(change):
                    raise
            await self._appended(change)

        await until_first(attempt)

    async def _appended(self, change: Change) -> None:
        """See the record in its log: a server that only says so could keep a key in use that one who left has."""
        try:
            stands = await self._stands(change)
        except NotFound:
            if isinstance(read_record(change.record).body, RoomLeave):
                return  # this identity has just left; of anybody else's removal the server has to show the record
            raise
        if not stands:
            raise Untrusted("the server says that it has stored a record, and does not show it")
        if change.epoch is not None:
            self.keyring.add(change.log.removeprefix(ROOM_PREFIX), *change.epoch)

    async def _stands(self, change: Change) -> bool:
        record = read_record(change.record)
        if change.log == DIRECTORY:
            return (await self.replica.sync_directory()).head_at(record.sequence) == record.head
        return (await self.replica.sync_room(change.log.removeprefix(ROOM_PREFIX))).head_at(
            record.sequence
        ) == record.head

    def report(self, refusal: Refusal) -> None:
        """What happens to refused frames unless the application says otherwise: a warning in the log."""
        log.warning(
            "%s of room %s from %s: %s (%s)",
            refusal.what,
            refusal.room,
            refusal.sender,
            refusal.error.message,
            refusal.error.code,
        )

    async def close(self) -> None:
        """End everything. Safe to call twice."""
        for room in self._rooms.values():
            await room.close()
        await self.link.close()
        await self.following.close()
        self.keeper.close()
        await self.api.close()

    async def _locate(self) -> tuple[str, ssl.SSLContext | None]:
        node, view = await self.api.locate()
        self._linked_by = node
        host = view.nats_host or node.host or ""
        place = f"[{host}]:{view.nats_port}" if ":" in host else f"{host}:{view.nats_port}"
        if view.nats_tls:
            return f"tls://{place}", self.api.tls or make_context()
        if node.scheme == "https" and not self._plain_bus:
            raise TlsDowngraded(f"the node is reached over tls but wants messages sent to {place} without")
        return f"nats://{place}", None

    def _left(self, node: URL) -> None:
        if node == self._linked_by:
            self.link.doubt()  # what does not serve the one plane may not serve the other

    def _leave(self) -> int:
        self.api.nodes.leave(self._linked_by)
        return len(self.api.nodes)

    def _may_hear(self, room: str) -> bool:
        state = self.replica.rooms.get(room)
        return state is not None and not state.archived and state.role(self.user, self.directory) is not None

    def _may_write(self, room: str) -> bool:
        state = self.replica.rooms.get(room)
        return state is not None and state.may_write(self.user, self.directory)

    async def _still_allowed(self) -> None:
        await self.api.records(DIRECTORY, self.directory.head.sequence)


@contextlib.asynccontextmanager
async def connect(
    url: str,
    identity: Identity,
    *,
    bus: str | None = None,
    state: Path | None = None,
    deadline: float = DEADLINE,
    on_first_contact: Callable[[str], None] | None = None,
    tls: ssl.SSLContext | None = None,
    ca: Path | None = None,
    plain_bus: bool = False,
) -> AsyncIterator[Bus]:
    """Connect to the bus that the daemon at `url` serves, as `identity`.

    `url` may be several addresses with commas between them, of nodes of one bus: what one does not serve, another does.

    `bus` is the bus's id, if it is known beforehand; else the first one seen is taken and remembered in `state`, a file
    that also remembers the heads of verified logs (None: only as long as this lasts), and `on_first_contact` is told.
    `deadline` is in seconds, for each control-plane call.

    With TLS (an https address), the system's authorities are trusted; with `ca`, only those in that PEM file; `tls` is
    a context of one's own, for a client certificate, say. A node that is reached by https must have TLS on the bus too,
    else no message is sent or read (TlsDowngraded), unless `plain_bus`.

    Raises Unreachable, WrongBus, NotAUser, NotFound when the bus has no users yet, and Untrusted errors, such as
    CertificateRefused.
    """
    api = ControlApi(url, identity.signing, time.time, deadline, chosen_context(tls, ca))
    await api.open()
    try:
        memory = Memory(state)
        expected = bus or memory.bus
        if expected is not None and api.several:
            api.bus = expected  # a node of another bus is then passed over, and named if there is no other
        view = await api.bus_view()
        served = served_bus(view)
        if bus is not None and bus != served:
            raise WrongBus(f"this daemon serves the bus {served}, not {bus}")
        if memory.pin_bus(served) and bus is None and on_first_contact is not None:
            on_first_contact(served)
        api.bus = served
        made = Bus(api, identity, memory, served, plain_bus=plain_bus)
        try:
            await made.replica.sync_directory()
            if not made.directory.active(identity.user):
                raise NotAUser("this identity is not on the bus: give its card to an admin")
            yield made
        finally:
            await made.close()
    finally:
        await api.close()
