"""Reading one room: deliveries opened, kept up and resumed; frames opened, judged and taken apart into messages.

Each message comes once and in the bus's order, across lost connections and restarts of anything. A frame that does not
hold is reported and skipped, so that one bad sender stops nobody; a server whose logs do not hold ends the reading
with the error that says so.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from functools import partial

from nats.errors import Error as NatsError

from unibus.client.backoff import PASSING, delays
from unibus.client.connection import Connection
from unibus.client.delivery import SILENCE, DeliveryState, Frame, Idle, Reopen, Reply
from unibus.client.inbox import Inbox
from unibus.client.judge import Judge
from unibus.client.keeping import Keeper
from unibus.client.keyring import Keyring
from unibus.client.link import Link
from unibus.client.messages import Message, Position, Refusal, from_unix_ms, messages_of_frame
from unibus.client.opening import Opener, check_publisher
from unibus.client.order import Gap, explained
from unibus.client.replica import Replica
from unibus.crypto.encoding import b64u, dump_json, load_json
from unibus.crypto.frames import Envelope, read_envelope
from unibus.errors import (
    PROBLEM_PREFIX,
    BusUnavailable,
    FrameInvalid,
    FrameMissing,
    InvalidInput,
    LogRolledBack,
    SealedKeyInvalid,
    SealedKeyMissing,
    StorageUnavailable,
    UnibusError,
    Untrusted,
)
from unibus.model.problem import from_problem
from unibus.model.subjects import control, delivery, room_messages

OPEN_SECONDS = 60.0  # for the answer to who asks for a delivery, while that delivery comes
REOPEN_CAP = 1.0  # the longest pause before a delivery is asked for again


class Reader:
    """Reads one room for one identity. `report` is told of every frame that was refused, and of those that are missing.

    `clock` gives Unix seconds.
    """

    def __init__(
        self,
        link: Link,
        replica: Replica,
        keyring: Keyring,
        keeper: Keeper,
        room: str,
        user: str,
        report: Callable[[Refusal], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._link = link
        self._replica = replica
        self._room = room
        self._user = user
        self._report = report
        self._keyring = keyring
        self._keeper = keeper
        self._judge = Judge()
        self._opener = Opener(replica, keyring, room, self._judge)
        self._inbox = Inbox(SILENCE)
        self._ended: UnibusError | None = None

    def end(self, error: UnibusError) -> None:
        """Have `messages` raise `error` once what has arrived is handled."""
        self._ended = error
        self._inbox.put(None)

    async def messages(self, since: Position | None, *, follow: bool = True) -> AsyncGenerator[Iterable[Message], None]:
        """All messages after `since`, or from now on if None, frame by frame; without end.

        Unless they are to `follow`: then it ends after those that were stored when the first of them came.

        Raises NotFound when this identity is not, or no longer, in the room; NotAUser; Untrusted errors.
        """
        seen = self._keeper.memory.seen(self._room)
        self._judge = Judge(seen, seen.last if since is None else None)
        self._opener = Opener(self._replica, self._keyring, self._room, self._judge)
        after = None if since is None else max(0, since.sequence - 1)
        left: int | None = None
        async with aclosing(self._frames(after)) as frames:
            async for frame in frames:
                if frame is not None:
                    first = since.offset + 1 if since is not None and frame.sequence == since.sequence else 0
                    yield await self._open(frame, first)
                    left = frame.pending if left is None else min(left - 1, frame.pending)
                if not follow and (frame is None or left == 0):
                    return

    async def _frames(self, after: int | None) -> AsyncGenerator[Frame | None, None]:
        """The frames after `after`; None where the server has no more for now."""
        pauses, behind, begun = delays(cap=REOPEN_CAP), 0, False
        while True:
            connection = await self._link.connection()
            self._inbox = Inbox(SILENCE)
            if self._ended is not None:
                raise self._ended
            try:
                async with self._delivery(connection, after) as state:
                    after, behind = state.last, 0
                    if not begun:
                        self._judge.begin(after)
                        begun = True
                    pauses = delays(cap=REOPEN_CAP)
                    connection.answered()
                    async with aclosing(self._follow(connection, state)) as frames:
                        async for frame in frames:
                            after = after if frame is None else frame.sequence
                            yield frame
                if not connection.gone.is_set():
                    await asyncio.sleep(next(pauses))  # however often a server makes one begin anew
            except LogRolledBack:
                # One node may be behind. All of them are asked, each once, before it is a lie.
                behind += 1
                if behind >= self._replica.nodes or not await self._link.leave(connection):
                    raise
            except (NatsError, OSError, TimeoutError, BusUnavailable, StorageUnavailable):
                self._link.unanswered(connection)
                await asyncio.sleep(next(pauses))

    @asynccontextmanager
    async def _delivery(self, connection: Connection, after: int | None) -> AsyncGenerator[DeliveryState, None]:
        token = b64u(secrets.token_bytes(16))
        inbox = self._inbox
        subscription = await connection.nats.hear(delivery(self._user, token), inbox.put)
        inbox.half = partial(connection.nats.half, subscription)
        try:
            request = dump_json({"room": self._room, "token": token, "after": after})
            asking = connection.request(control(self._user, "deliver"), request, OPEN_SECONDS)
            start = read_opened(await inbox.unless_silent(asking))
            if after is not None and start != after:
                raise LogRolledBack(
                    f"the bus begins after frame {start} and not after {after}: frames are lost or withheld"
                )
            yield DeliveryState(start)
        finally:
            # Without a subscriber the daemon's consumer ends by itself.
            with contextlib.suppress(NatsError, OSError):
                await subscription.unsubscribe()

    async def _follow(self, connection: Connection, state: DeliveryState) -> AsyncGenerator[Frame | None, None]:
        inbox = self._inbox
        gone = asyncio.create_task(_when_gone(connection, inbox), name="delivery watch")
        try:
            while True:
                msg = await inbox.get()
                if msg is None:
                    return
                match state.step(msg.subject, msg.reply, msg.headers, msg.data):
                    case Frame() as frame:
                        yield frame
                    case Idle():
                        yield None
                    case Reply(subject):
                        await connection.nats.publish(subject)
                    case Reopen():
                        return
        finally:
            gone.cancel()
            inbox.close()

    async def _open(self, frame: Frame, first: int) -> Iterable[Message]:
        for pause in delays():
            try:
                return await self._judged(frame, first)
            except UnibusError as error:
                if error.status not in PASSING or isinstance(error, Untrusted):
                    raise
            # The control plane is away for a moment; what it is asked for here will still be there.
            await asyncio.sleep(pause)
        return ()

    async def _judged(self, frame: Frame, first: int) -> Iterable[Message]:
        sender = None
        try:
            envelope = read_envelope(frame.data)
            sender = envelope.sender
            check_publisher(frame.subject, room_messages(self._room, sender))
            content = await self._opener.unseal(frame.data, envelope)
        except (FrameInvalid, SealedKeyMissing, SealedKeyInvalid) as error:
            return self._refuse(frame, sender, error)
        if content is None:
            self._judge.passed(frame.sequence, refused=False)
            return ()
        await self._opener.catch_up(content)
        missing = self._judge.gap(envelope, frame.sequence)
        if missing is not None:
            # What the room keeps may have changed: whatever it no longer keeps was not withheld.
            await self._replica.sync_room(self._room)
        # From here on nothing is waited for: what is noted of the frame is noted once.
        if missing is not None:
            self._report_missing(frame, envelope, missing)
        try:
            self._opener.accept(envelope, content, frame.sequence)
        except Untrusted as error:
            return self._refuse(frame, sender, error)
        self._judge.passed(frame.sequence, refused=False)
        self._keeper.shown()
        handle, sent_at = self._replica.directory.handle_of(sender), from_unix_ms(content.sent_at)
        return messages_of_frame(self._room, sender, handle, sent_at, frame.sequence, content.messages, first)

    def _refuse(self, frame: Frame, sender: str | None, error: UnibusError) -> Iterable[Message]:
        self._judge.passed(frame.sequence, refused=True)
        self._report(Refusal(self._room, frame.sequence, sender, error))
        return ()

    def _report_missing(self, frame: Frame, envelope: Envelope, gap: Gap) -> None:
        if explained(gap, self._replica.rooms[self._room].retentions, self._clock()):
            return
        who = self._replica.directory.handle_of(envelope.sender)
        error = FrameMissing(f"{gap.frames} of {who}'s frames before this one were stored and are not shown")
        self._report(Refusal(self._room, frame.sequence, envelope.sender, error))


async def _when_gone(connection: Connection, inbox: Inbox) -> None:
    await connection.gone.wait()
    inbox.put(None)


def read_opened(answer: bytes) -> int:
    """The sequence after which a delivery begins, from the daemon's answer to the request for it.

    Raises what the daemon refuses it for, and Untrusted for an answer that is none.
    """
    try:
        found = load_json(answer)
    except InvalidInput:
        found = None
    match found:
        case {"after": int(start)} if type(start) is int and 0 <= start < 2**64:  # true is an int too
            return start
        case {"error": {"code": str(code), "message": str(message)}}:
            raise from_problem(500, dump_json({"type": PROBLEM_PREFIX + code, "detail": message}))
        case _:
            raise Untrusted("the daemon answered a request for a delivery with something else")
