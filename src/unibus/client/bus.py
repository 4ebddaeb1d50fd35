"""The bus as the application uses it: `async with connect(url, identity) as bus`.

Wires the client's parts together and holds what they share. What the server says is verified by `Replica`; the NATS
connection is made when the first message is sent or read.
"""

import asyncio
import contextlib
import logging
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

from unibus.client.api import DEADLINE, ControlApi
from unibus.client.changes import Change, Signer, genesis_bus
from unibus.client.keyring import Keyring
from unibus.client.link import Link
from unibus.client.memory import Memory
from unibus.client.messages import Refusal
from unibus.client.races import until_first
from unibus.client.replica import Replica
from unibus.client.room import Room, room_named
from unibus.client.trust import chosen_context, make_context
from unibus.crypto.encoding import load_json
from unibus.crypto.identity import Identity
from unibus.crypto.invites import InviteToken
from unibus.crypto.nkeys import SigningKey
from unibus.errors import InvalidInput, NotAUser, NotFound, TlsDowngraded, UnibusError, Untrusted, WrongBus
from unibus.model.bodies import History, Role, RoomLeave, RoomRemove
from unibus.model.directory import Directory, User
from unibus.model.records import DIRECTORY, ROOM_PREFIX, read_record, room_log

INVITE_SECONDS = 3600

log = logging.getLogger("unibus.client")


class Bus:
    """One identity's view of one bus. Made by `connect`."""

    def __init__(
        self, api: ControlApi, identity: Identity, memory: Memory, bus: str, *, plain_bus: bool = False
    ) -> None:
        self.id = bus
        self._plain_bus = plain_bus
        self.identity = identity
        self.api = api
        self.replica = Replica(api, memory, bus)
        self.keyring = Keyring(api, identity)
        self.link = Link(
            identity,
            locate=self._locate,
            allowed=self._still_allowed,
            may_hear=self._may_hear,
            may_write=self._may_write,
            on_event=self._announced,
            on_up=self._catch_up,
        )
        self._rooms: dict[str, Room] = {}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._news: set[str] = set()

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
        for user in among:
            if handle in {user, known[user].handle}:
                return known[user]
        raise NotFound(f"{handle!r} is not in this room: see unibus room show")

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

        `url` is the daemon's address as the newcomer sees it, else this client's. Raises Forbidden, RuleBroken.
        """
        key = SigningKey.from_seed(secrets.token_bytes(32))

        async def build() -> Change:
            signer = self.signer()
            return signer.invite(self.directory, key.public, role, signer.at + seconds, handle)

        await self.append(build)
        return InviteToken(self.id, key, url or str(self.api.url).rstrip("/"))

    async def withdraw_invite(self, invite: str) -> None:
        """Take back an invite, named by its public key, that nobody has used yet. Raises the Invite errors."""

        async def build() -> Change:
            return self.signer().withdraw_invite(self.directory, invite)

        await self.append(build)

    async def create_room(self, name: str, history: History = "shared") -> Room:
        """Make a room with this identity as its owner. Raises InvalidInput for a name that cannot be shown."""
        made: list[str] = []

        async def build() -> Change:
            room, change = self.signer().create_room(self.directory, name, history)
            made.append(room)
            return change

        await self.append(build)
        return await self._room(made[-1])

    async def rooms(self) -> list[Room]:
        """The rooms that this identity is in, verified, by name."""
        found, after = [], ""
        while True:
            page = await self.api.rooms(after)
            for room in page.rooms:
                with contextlib.suppress(NotFound):  # removed from it since the page was made
                    found.append(await self._room(room))
            if page.next is None:
                return sorted(found, key=lambda room: (room.name, room.id))
            if page.next <= after:
                raise Untrusted("the server's list of rooms goes round in circles")
            after = page.next

    async def room(self, name: str) -> Room:
        """The room called `name`, or with that id. Raises NotFound."""
        return room_named(await self.rooms(), name)

    async def _room(self, room: str) -> Room:
        state = await self.replica.sync_room(room)
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
            await self.api.append(change.log, change.record, change.sealed)
            await self._appended(change)

        await until_first(attempt)

    async def _appended(self, change: Change) -> None:
        """See the record in its log: a server that only says so could keep a key in use that one who left has."""
        record = read_record(change.record)
        room = change.log.removeprefix(ROOM_PREFIX)
        try:
            state = await (self.replica.sync_directory() if change.log == DIRECTORY else self.replica.sync_room(room))
        except NotFound:
            if isinstance(record.body, RoomLeave | RoomRemove):
                return  # this identity has just left
            raise
        if state.head_at(record.sequence) != record.head:
            raise Untrusted("the server says that it has stored a record, and does not show it")
        if change.epoch is not None:
            self.keyring.add(room, *change.epoch)

    def report(self, refusal: Refusal) -> None:
        """What happens to refused frames unless the application says otherwise: a warning in the log."""
        log.warning(
            "refused frame %s of room %s from %s: %s (%s)",
            refusal.sequence,
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
        following = list(self._following.values())
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        await self.api.close()

    async def _locate(self) -> tuple[str, ssl.SSLContext | None]:
        view = await self.api.bus_view()
        place = f"{view.nats_host or self.api.url.host}:{view.nats_port}"
        if view.nats_tls:
            return f"tls://{place}", self.api.tls or make_context()
        if self.api.url.scheme == "https" and not self._plain_bus:
            raise TlsDowngraded(f"the node is reached over tls but wants messages sent to {place} without")
        return f"nats://{place}", None

    def _may_hear(self, room: str) -> bool:
        state = self.replica.rooms.get(room)
        return state is not None and not state.archived and state.role(self.user, self.directory) is not None

    def _may_write(self, room: str) -> bool:
        state = self.replica.rooms.get(room)
        return state is not None and state.may_write(self.user, self.directory)

    async def _still_allowed(self) -> None:
        await self.api.records(DIRECTORY, self.directory.head.sequence)

    def _announced(self, data: bytes) -> None:
        # An announcement is a hint and nothing more: what it leads to is fetched and verified.
        try:
            found = load_json(data)
        except InvalidInput:
            return
        name = found.get("log") if isinstance(found, dict) else None
        if name == DIRECTORY or (isinstance(name, str) and name.removeprefix(ROOM_PREFIX) in self.replica.rooms):
            self._begin_to_follow(name)

    def _catch_up(self) -> None:
        for name in (DIRECTORY, *(room_log(room.id) for room in self._rooms.values() if room.in_use)):
            self._begin_to_follow(name)

    def _begin_to_follow(self, name: str) -> None:
        # However often a log is announced, it is fetched by one task, once more after the last announcement.
        self._news.add(name)
        if name not in self._following:
            self._following[name] = asyncio.create_task(self._follow_news(name), name=f"follow {name}")

    async def _follow_news(self, name: str) -> None:
        try:
            while name in self._news:
                self._news.discard(name)
                await self._follow(name)
        finally:
            del self._following[name]

    async def _follow(self, name: str) -> None:
        try:
            if name == DIRECTORY:
                await self.replica.sync_directory()
            else:
                await self.replica.sync_room(name.removeprefix(ROOM_PREFIX))
        except (NotFound, NotAUser) as error:
            for room in self._rooms.values():
                if isinstance(error, NotAUser) or room.id == name.removeprefix(ROOM_PREFIX):
                    room.end(error)
        except UnibusError as error:
            for room in self._rooms.values():
                if name in {DIRECTORY, room_log(room.id)}:
                    if isinstance(error, Untrusted):
                        room.end(error)  # who reads and writes here must hear that the server lies
                    room.doubt()
            log.warning("could not follow the log %s: %s (%s)", name, error.message, error.code)


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
        view = await api.bus_view()
        if view.bus is None or view.genesis is None:
            raise NotFound("this bus has no users yet: its operator begins with unibus init")
        try:
            made_by_genesis = genesis_bus(view.genesis.encode("ascii"))
        except UnibusError as error:
            raise Untrusted(f"the server shows a first record that makes no bus: {error}") from error
        if made_by_genesis != view.bus:
            raise Untrusted("the server names a bus that its first record does not make")
        if bus is not None and bus != view.bus:
            raise WrongBus(f"this daemon serves the bus {view.bus}, not {bus}")
        if memory.pin_bus(view.bus) and bus is None and on_first_contact is not None:
            on_first_contact(view.bus)
        api.bus = view.bus
        made = Bus(api, identity, memory, view.bus, plain_bus=plain_bus)
        try:
            await made.replica.sync_directory()
            if not made.directory.active(identity.user):
                raise NotAUser("this identity is not on the bus: give its card to an admin")
            yield made
        finally:
            await made.close()
    finally:
        await api.close()
