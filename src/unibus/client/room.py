"""One room as the application uses it: send, read, and change who is in it."""

import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from unibus.client.batching import Sent
from unibus.client.blob_manifests import Blob
from unibus.client.blob_upload import Progress
from unibus.client.blobs import RoomBlobs, silent
from unibus.client.changes import Change
from unibus.client.messages import START, Message, Position, Refusal
from unibus.client.outbox import Outbox
from unibus.client.questions import Question
from unibus.client.reader import Reader
from unibus.client.sealer import Sealer
from unibus.client.signal_rules import Signal
from unibus.client.signals import Signals
from unibus.crypto.roomkey import KEY_BYTES
from unibus.errors import NotAUser, NotFound, SealedKeyInvalid, UnibusError
from unibus.model.bodies import (
    RoomArchive,
    RoomLeave,
    RoomRename,
    RoomRetention,
    RoomRole,
    RoomSetRole,
    Strict,
)
from unibus.model.names import check_room_name
from unibus.model.room import Room as RoomState

if TYPE_CHECKING:
    from unibus.client.bus import Bus

Since = Position | Literal["start", "now"]


class Room:
    """A room on a bus. Made by `Bus.room` and `Bus.create_room`; what it shows is verified."""

    def __init__(self, bus: "Bus", room: str) -> None:
        self._bus = bus
        self.id = room
        self._readers: set[Reader] = set()
        self._sealer = Sealer(bus, self)
        self._outbox = Outbox(bus.link, room, bus.user, self._sealer.ready, self._sealer.abandon)
        self._signals = Signals(bus, self)
        self._blobs = RoomBlobs(bus, self)

    @property
    def state(self) -> RoomState:
        """The room's log, reduced: as new as the last announcement that was followed."""
        return self._bus.replica.rooms[self.id]

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def members(self) -> dict[str, RoomRole]:
        """Who is in the room now, by handle."""
        directory = self._bus.directory
        return {directory.handle_of(user): role for user, role in self.state.members(directory).items()}

    async def send(self, data: str | bytes) -> Position:
        """Send one message; returns its position once the bus has stored it.

        Raises Forbidden, NotFound when this identity may not write here (any more), TooLarge, BusUnavailable when the
        bus did not take it within the deadline.
        """
        await self._outbox.room_to_post()
        return await self.post(data)

    def post(self, data: str | bytes) -> Sent:
        """Queue one message without waiting; what is returned can be awaited for its position or the failure.

        Messages posted while others are on their way share a frame. Between many, await `room_to_post`.
        """
        return self._outbox.post(data.encode() if isinstance(data, str) else data)

    async def room_to_post(self) -> None:
        """Wait while more is queued than should be."""
        await self._outbox.room_to_post()

    async def drain(self) -> None:
        """Wait until all that was posted is stored, or has failed."""
        await self._outbox.drain()

    async def messages(
        self, since: Since = "now", *, follow: bool = True, on_refused: Callable[[Refusal], None] | None = None
    ) -> AsyncGenerator[Message, None]:
        """Messages after `since`, without end: each once, in the bus's order, whatever happens in between.

        Without `follow` it ends after those that are stored by now; where that is, the server says.

        `on_refused` hears of frames that do not verify; by default they go to the log as warnings. Raises NotFound
        when this identity is removed, NotAUser when it is revoked, Untrusted errors when the server's logs do not hold.
        """
        bus = self._bus
        reader = Reader(bus.link, bus.replica, bus.keyring, bus.keeper, self.id, bus.user, on_refused or bus.report)
        start = START if since == "start" else None if since == "now" else since
        self._readers.add(reader)
        try:
            async with aclosing(reader.messages(start, follow=follow)) as frames:
                async for messages in frames:
                    for message in messages:
                        yield message
        except (NotFound, NotAUser) as error:
            self.end(error)
            raise
        finally:
            self._readers.discard(reader)

    async def signal(self, data: str | bytes) -> None:
        """Send what is not stored to the members who listen now, such as that one is typing. At most 64 KiB.

        Nothing says whether it arrived. Raises Forbidden, NotFound when this identity may not write here, TooLarge,
        BusUnavailable.
        """
        await self._signals.signal(data.encode() if isinstance(data, str) else data)

    async def signals(self, *, on_refused: Callable[[Refusal], None] | None = None) -> AsyncGenerator[Signal, None]:
        """The other members' signals from now on, without end. Who takes them too slowly gets the newest.

        `on_refused` hears of those that do not verify, by default the log does. Raises as `messages`, and Forbidden
        when the room is archived.
        """
        with self._signals.hearing(on_refused or self._bus.report) as heard:
            await self._signals.listen(write=False)
            while True:
                yield await heard.get()

    async def ask(self, handle: str, data: str | bytes, deadline: float = 2.0) -> bytes:
        """The answer of the member called `handle`, who alone hears the question. Nothing of it is stored.

        `deadline` is in seconds. Raises Unanswered when it is over, NobodyThere when they do not listen, Declined when
        they do not answer, NotFound, Forbidden when they or this identity may not write here, TooLarge, BusUnavailable.
        """
        target = self._bus.find(handle, among=self.state.roles).user
        return await self._signals.ask(target, handle, data.encode() if isinstance(data, str) else data, deadline)

    async def questions(self, *, on_refused: Callable[[Refusal], None] | None = None) -> AsyncGenerator[Question, None]:
        """Questions to this identity from now on, without end; each has an `answer`. As `signals` otherwise."""
        with self._signals.answering(on_refused or self._bus.report) as asked:
            await self._signals.listen(write=True)
            while True:
                yield await asked.get()

    async def listen(self) -> None:
        """Return once signals come in, so that nothing sent from here on is missed. `signals` begins with it, too.

        And questions, where `questions` is being gone through.
        """
        await self._signals.listen(write=self._signals.answers)

    @property
    def signals_dropped(self) -> int:
        """How many signals and questions were lost here because they were not taken fast enough."""
        return self._signals.dropped

    @property
    def in_use(self) -> bool:
        """Whether anything is being read or sent here."""
        return bool(self._readers) or self._outbox.busy or self._signals.in_use

    def doubt(self) -> None:
        """There is news of this room that could not be had: it is asked for again before anything more is sent."""
        self._sealer.doubt = self._signals.sealer.doubt = True

    def end(self, error: UnibusError) -> None:
        """This room is no longer open to this identity: what sends and reads here ends with `error`."""
        self.doubt()
        self._outbox.fail(error)
        self._signals.end(error)
        for reader in self._readers:
            reader.end(error)

    async def add(self, handle: str, role: RoomRole = "member") -> None:
        """Add the user called `handle`. Raises NotFound, Forbidden, RuleBroken."""
        user = self._bus.find(handle).user

        async def build() -> Change:
            state, key = await self._current()
            return self._bus.signer().add(state, self._bus.directory, key, user, role)

        await self._bus.append(build, self.id)

    async def remove(self, handle: str) -> None:
        """Remove a member: cut off at once, and everything from now on is under a key that they never get.

        Oneself: as `leave`.
        """
        user = self._bus.find(handle, among=self.state.roles).user
        if user == self._bus.user:
            await self.leave()
            return

        async def build() -> Change:
            state, key = await self._key_to_leave()
            return self._bus.signer().remove(state, self._bus.directory, key, user)

        await self._bus.append(build, self.id)

    async def rotate(self) -> None:
        """Begin a new epoch: a new key for the members who are on the bus now."""

        async def build() -> Change:
            state, key = await self._key_to_leave()
            return self._bus.signer().rotate(state, self._bus.directory, key)

        await self._bus.append(build, self.id)

    async def leave(self, successor: str | None = None) -> None:
        """Leave the room. Its last owner names a successor by handle, or archives the room. Raises RuleBroken."""
        heir = self._bus.find(successor, among=self.state.roles).user if successor is not None else None
        await self._change(RoomLeave(successor=heir))

    async def set_role(self, handle: str, role: RoomRole) -> None:
        """Change a member's role; a reader's right to write ends at once. Raises Forbidden, RuleBroken."""
        await self._change(RoomSetRole(user=self._bus.find(handle, among=self.state.roles).user, role=role))

    async def rename(self, name: str, *, unique: bool = False) -> None:
        """Give the room another name. Raises Forbidden, InvalidInput; `unique` is as in `Bus.create_room`."""
        if unique and name != self.name:
            await self._bus.check_unused(name)
        await self._change(RoomRename(name=check_room_name(name)))

    async def retain(self, *, seconds: int | None, size: int | None) -> None:
        """Keep messages of at most `seconds` and at most `size` bytes of them; None is no limit. Raises Forbidden."""
        await self._change(RoomRetention(seconds=seconds, bytes=size))

    async def archive(self) -> None:
        """Close the room for good: it stays readable for its members, and nothing is added. Raises Forbidden."""
        await self._change(RoomArchive())

    async def _change(self, body: Strict) -> None:
        async def build() -> Change:
            return self._bus.signer().plain(self.state, self._bus.directory, body)

        await self._bus.append(build, self.id)

    async def put_blob(
        self,
        source: Path | BinaryIO,
        name: str,
        *,
        media_type: str | None = None,
        resume: Path | None = None,
        progress: Progress = silent,
    ) -> str:
        """Store a file, or all that a stream gives, encrypted; returns the blob's id. `name` is what members see.

        `resume` is a directory (0700) that keeps the key of an unfinished upload, so that storing the same file again
        goes on where it was cut. `progress` is told the sealed bytes done and in all. Raises Forbidden,
        QuotaExceeded, TooLarge, InvalidInput, StorageUnavailable, Unreachable.
        """
        return await self._blobs.put(source, name, media_type=media_type, resume=resume, progress=progress)

    async def get_blob(self, blob: str, path: Path, *, progress: Progress = silent) -> Blob:
        """Fetch the blob with the id `blob` into a new file at `path`, which is there only when all of it was verified.

        Raises NotFound, InvalidInput when there is something at `path`, BlobInvalid and other Untrusted errors,
        Unreachable.
        """
        return await self._blobs.get(blob, path, progress)

    async def blobs(self, *, on_refused: Callable[[Refusal], None] | None = None) -> list[Blob]:
        """The room's blobs, by name. `on_refused` hears of those that do not verify; by default the log does."""
        return await self._blobs.list(on_refused or self._bus.report)

    async def blob(self, blob: str) -> Blob:
        """What is known of the blob with the id `blob`. Raises NotFound, Untrusted errors."""
        return await self._blobs.find(blob)

    async def delete_blob(self, blob: str) -> None:
        """Delete a blob: one's own, or any as an owner of the room. Raises NotFound, Forbidden."""
        await self._blobs.delete(blob)

    async def close(self) -> None:
        """Stop sending; what was posted and not stored fails."""
        await self._outbox.close()
        await self._signals.close()

    async def _current(self) -> tuple[RoomState, bytes]:
        state = self.state
        return state, await self._bus.keyring.current(state)

    async def _key_to_leave(self) -> tuple[RoomState, bytes]:
        try:
            return await self._current()
        except SealedKeyInvalid:
            # A member who seals something else to an owner must not be safe from removal by that. The next epoch then
            # links to nothing, and who joins later cannot read what came before it.
            return self.state, secrets.token_bytes(KEY_BYTES)


def room_named(rooms: list[Room], name: str) -> Room:
    """The room called `name`. Raises NotFound, also when the name is not unique.

    A room that is archived is called so only while none that is open is: its name can be used again.
    """
    called = [room for room in rooms if room.name == name]
    found = [room for room in called if not room.state.archived] or called
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(room.id for room in found)
        raise NotFound(f"several rooms are called {name!r}: name one by its id, of {ids}")
    raise NotFound(f"you are in no room called {name!r}: see unibus room list")
