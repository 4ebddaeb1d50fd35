"""What is not stored in a room: signals to all, questions to one member, answers. Opened, judged and handed out.

The same key, signature and rules as for messages, under a purpose of their own that binds the addressee. And because
the bus keeps no order or past of them: a signal is fresh, was not heard before, and its sender may write *now*.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from unibus.client.connection import Connection
from unibus.client.hearing import Hearing
from unibus.client.messages import Refusal, from_unix_ms
from unibus.client.newest import Newest
from unibus.client.opening import Opener, check_publisher
from unibus.client.questions import Book, Question
from unibus.client.sealer import Seal, Sealer
from unibus.client.signal_rules import (
    DECLINED,
    QUESTION,
    Directed,
    Signal,
    addressee,
    check_addressee,
    check_fresh,
    check_size,
    read_directed,
    read_signal,
)
from unibus.crypto.frames import Content, Envelope, read_envelope, signal_purpose
from unibus.errors import (
    BusUnavailable,
    Forbidden,
    FrameInvalid,
    InvalidInput,
    NotFound,
    SealedKeyInvalid,
    SealedKeyMissing,
    Unanswered,
    UnibusError,
    Untrusted,
)
from unibus.model.subjects import ALL, room_signals
from unibus.tasks import end_tasks

if TYPE_CHECKING:
    from unibus.client.bus import Bus
    from unibus.client.room import Room

SEND_SECONDS = 5.0
WAITING = 256  # signals, or questions, that the application has not taken yet
Report = Callable[[Refusal], None]
T = TypeVar("T", Signal, Question)


class Signals:
    """The signals of one room for one identity."""

    def __init__(self, bus: "Bus", room: "Room", clock: Callable[[], float] = time.time) -> None:
        self._bus = bus
        self._room = room
        self._clock = clock
        self.sealer = Sealer(bus, room)
        self._opener = Opener(bus.replica, bus.keyring, room.id)
        self._book = Book()
        self._hearing = Hearing(
            bus.link,
            room.id,
            bus.user,
            may_write=lambda: room.state.may_write(bus.user, bus.directory),
            news=self._news,
            absent=self._book.absent,
            ended=self.end,
        )
        self._signals: dict[Newest[Signal], Report] = {}
        self._questions: dict[Newest[Question], Report] = {}
        self._sent_on: Connection | None = None
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def in_use(self) -> bool:
        """Whether anybody listens here."""
        return bool(self._signals or self._questions)

    @property
    def answers(self) -> bool:
        """Whether anybody here takes questions."""
        return bool(self._questions)

    @property
    def dropped(self) -> int:
        """How many signals and questions were lost here because nobody took them fast enough."""
        return self._dropped + self._hearing.inbox.dropped + sum(queue.dropped for queue in self._listeners)

    async def signal(self, data: bytes) -> None:
        """Send `data` to whoever listens now. Raises TooLarge, Forbidden, NotFound, BusUnavailable."""
        await self._send(ALL, (check_size(data),))

    async def ask(self, target: str, handle: str, data: bytes, deadline: float) -> bytes:
        """The answer of the user `target` to `data`, within `deadline` seconds. See `Room.ask`."""
        if target == self._bus.user:
            raise InvalidInput("ask somebody else: your own questions do not come back to you")
        if not self._room.state.may_write(target, self._bus.directory):
            raise Forbidden(f"{handle} may not write in this room and so cannot answer")
        check_size(data)
        with self._book.asking(target, handle) as asked:
            try:
                async with asyncio.timeout(deadline):
                    await self.listen(write=True)
                    reply = f"{self._hearing.replies}.{asked.token}"
                    await self._send(target, asked.directed(data).parts, reply)
                    return await asked.answer
            except TimeoutError as error:
                raise Unanswered(f"{handle} did not answer within {deadline:g} s") from error

    async def listen(self, *, write: bool) -> None:
        """Return once signals come in, with `write` over a connection that may also send. Raises as `Room.ask`."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._handle_all(), name=f"signals heard in {self._room.id}")
            self._task.add_done_callback(self._stopped)
        if write:
            await self.sealer.ready(False)
        while not await self._hearing.on(await self._bus.link.connection(self._room.id, write=write)):
            continue

    @contextmanager
    def hearing(self, report: Report) -> Generator[Newest[Signal], None, None]:
        """Where signals to all are put, until the end of the block. `report` hears of those that do not hold."""
        with self._listening(self._signals, report) as queue:
            yield queue

    @contextmanager
    def answering(self, report: Report) -> Generator[Newest[Question], None, None]:
        """Where questions are put, until the end of the block. `report` hears of those that do not hold."""
        with self._listening(self._questions, report) as queue:
            yield queue

    def end(self, error: UnibusError) -> None:
        """Nothing more comes or goes: who listens and who asks hear why."""
        self.sealer.doubt = True
        for queue in self._listeners:
            queue.end(error)
        self._book.fail(error)

    async def close(self) -> None:
        """Stop. Safe to call twice."""
        await self._hearing.close()
        await end_tasks(self._task)
        self.end(BusUnavailable("the connection to the bus is closed"))

    def _stopped(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # A mistake of this library's own, or of what hears of refusals: nobody may wait for ever because of it.
            self.end(UnibusError(f"hearing signals failed for an unforeseen reason: {error!r}"))

    @property
    def _listeners(self) -> list[Newest[Signal] | Newest[Question]]:
        return [*self._signals, *self._questions]

    @contextmanager
    def _listening(self, listeners: dict[Newest[T], Report], report: Report) -> Generator[Newest[T], None, None]:
        queue: Newest[T] = Newest(WAITING)
        listeners[queue] = report
        try:
            yield queue
        finally:
            del listeners[queue]
            self._dropped += queue.dropped

    async def _send(self, to: str, parts: tuple[bytes, ...], reply: str = "") -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                connection, seal = await self._ready()
                subject = room_signals(self._room.id, self._bus.user, to)
                await connection.nats.publish(subject, seal(parts, signal_purpose(to)), reply=reply)
        except (NatsError, OSError, TimeoutError) as error:
            raise BusUnavailable(f"the bus did not take this within {SEND_SECONDS:g} s") from error

    async def _ready(self) -> tuple[Connection, Seal]:
        await self.sealer.ready(False)  # no connection is made for a room that may not be written into
        connection = await self._bus.link.connection(self._room.id)
        # What was announced while there was no connection was missed: a removal, a departure, a new key.
        seal = await self.sealer.ready(connection is not self._sent_on)
        self._sent_on = connection
        return connection, seal

    async def _direct(self, to: str, said: Directed) -> None:
        await self._send(to, said.parts)

    async def _news(self) -> None:
        await self._bus.replica.sync_directory()
        await self._bus.replica.sync_room(self._room.id)

    async def _handle_all(self) -> None:
        while True:
            msg = await self._hearing.inbox.get()
            try:
                await self._handle(msg)
            except (Untrusted, NotFound) as error:
                self.end(error)  # it is the server's logs that do not hold, or this identity that is not in the room
            except UnibusError as error:
                self._report(None, error)  # what was needed to judge it could not be had: it is lost, as signals may be

    async def _handle(self, msg: Msg) -> None:
        to = addressee(msg.subject)
        if to == ALL and not self._signals:
            return
        sender = None
        try:
            envelope = read_envelope(msg.data)
            sender = envelope.sender
            if sender == self._bus.user:
                return
            check_publisher(msg.subject, room_signals(self._room.id, sender, to))
            check_addressee(to, self._bus.user)
            content = await self._opener.unseal(msg.data, envelope, signal_purpose(to))
        except (FrameInvalid, SealedKeyMissing, SealedKeyInvalid) as error:
            self._report(sender, error)
            return
        if content is None:
            return
        await self._opener.catch_up(content)
        try:
            declined = self._take(envelope, content, to)
        except Untrusted as error:
            self._report(sender, error)
            return
        if declined is not None:
            with contextlib.suppress(BusUnavailable, Forbidden):  # then who asked waits for their deadline
                await self._direct(sender, declined)

    def _take(self, envelope: Envelope, content: Content, to: str) -> Directed | None:
        """Judge a signal and hand it out; what to say to its sender if it is a question that nobody here answers."""
        room, sender = self._room, envelope.sender
        handle = self._bus.directory.handle_of(sender)
        check_fresh(content, self._clock(), handle)
        if not room.state.may_write(sender, self._bus.directory):
            raise FrameInvalid(f"{handle} may not write in this room now")
        self._opener.accept(envelope, content)
        sent_at = from_unix_ms(content.sent_at)
        if to == ALL:
            signal = Signal(room.id, sender, handle, read_signal(content), sent_at)
            for heard in self._signals:
                heard.put(signal)
            return None
        said = read_directed(content)
        if said.kind != QUESTION:
            self._book.answered(sender, said)
            return None
        question = Question(room.id, sender, handle, said.data, sent_at, said.id, self._direct)
        for asked in self._questions:
            asked.put(question)
        return None if self._questions else Directed(DECLINED, said.id, b"nobody there answers questions")

    def _report(self, sender: str | None, error: UnibusError) -> None:
        refusal = Refusal(self._room.id, 0, sender, error)
        for report in {*self._signals.values(), *self._questions.values()} or {self._bus.report}:
            report(refusal)
