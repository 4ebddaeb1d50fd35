"""Sending into one room: batches become frames, frames are published and acknowledged, and tried again until they are.

A frame is sealed once and sent again as it is, under the same unpredictable message id, so that the bus stores it once
however often it is sent; what to send again, and when to seal it anew, is decided in `flights`. Frames that a new
connection finds unacknowledged come before new ones. A frame that is not acknowledged by its deadline fails for who
waits for it; a refusal that will not change fails all.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Final, Literal

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from unibus.client.backoff import PASSING, delays
from unibus.client.batching import Batch, Batcher, Sent
from unibus.client.connection import Connection
from unibus.client.flights import Flight, Flights
from unibus.client.link import Link
from unibus.client.pace import Pace
from unibus.client.sealer import Seal
from unibus.crypto.encoding import load_json
from unibus.errors import BusUnavailable, InvalidInput, LimitReached, StorageUnavailable, UnibusError, Untrusted
from unibus.model.subjects import room_messages
from unibus.tasks import end_tasks

IN_FLIGHT = 16  # frames on their way at once, of as many bytes as `pace` says
ACK_SECONDS = 3.0  # after which a frame is sent again
UNREADY_CAP = 1.0  # the longest pause before it is, while the bus says that it cannot store now
DEADLINE = 60.0  # after which it has failed; well below the bus's window for de-duplication
FULL = 10023  # JetStream's err_code when all the room for messages is taken; waiting does not help then
CLOSED = frozenset({"maximum bytes exceeded", "maximum messages exceeded"})  # … all but what is kept for records
ABSENT_REASON = 10071  # … of a frame sent on the condition that never holds: it is not stored, and was not before
BEING_STORED = 10158  # … when another copy of the frame is just on its way to the disks
_STORED = re.compile(rb'\{"stream":"ROOMS", ?"seq":([1-9][0-9]{0,18})\}')  # as JetStream nearly always says it
HIGH_WATER = 8 * 2**20  # bytes waiting, above which senders are held back
NEVER = f"Nats-Expected-Last-Sequence: {2**53}\r\n"
"""A condition that never holds. Not one about ids: in a cluster, nats-server 2.15 stops the stream over a wrong one."""


class Answer(Enum):
    """What the bus answers besides a frame's number or a refusal for good."""

    ABSENT = "not stored"


ABSENT: Final = Answer.ABSENT


class Outbox:
    """The outgoing side of one room. `prepare` returns what seals frames now, or raises why nothing can be sent; it is
    told whether there is doubt, because a connection is new or a frame was not acknowledged in time. `abandon` has it
    begin another session."""

    def __init__(
        self,
        link: Link,
        room: str,
        user: str,
        prepare: Callable[[bool], Awaitable[Seal]],
        abandon: Callable[[], None],
        *,
        deadline: float = DEADLINE,
    ) -> None:
        self._link = link
        self._deadline = deadline
        self._room = room
        self._subject = room_messages(room, user)
        self._prepare = prepare
        self._abandon = abandon
        self._loop = asyncio.get_running_loop()
        self._waiting = Batcher(self._loop)
        self._flights = Flights()
        self._pace = Pace()
        self._check: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._progress = asyncio.Event()
        self._connection: Connection | None = None
        self._heard: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._unready = delays(cap=UNREADY_CAP)
        self._doubt = False
        self._failure: UnibusError | None = None
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether anything waits or is on its way."""
        return bool(self._waiting.size or len(self._flights))

    def post(self, data: bytes) -> Sent:
        """Queue one message; await the result for its position. Raises TooLarge, BusUnavailable after close."""
        if self._closed:
            raise BusUnavailable("the connection to the bus is closed")
        sent = self._waiting.add(data)
        self._wake.set()
        if self._task is None:
            self._task = self._loop.create_task(self._run(), name=f"outbox {self._room}")
            self._task.add_done_callback(self._ended)
        return sent

    async def room_to_post(self) -> None:
        """Wait while more is queued than should be: call it between posts of a long series."""
        while self._waiting.size > HIGH_WATER:
            self._progress.clear()
            await self._progress.wait()

    async def drain(self) -> None:
        """Wait until everything that was posted is stored or has failed. Raises the first failure since last time."""
        while self.busy:
            self._progress.clear()
            await self._progress.wait()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def close(self) -> None:
        """Fail what is still on its way and stop. Safe to call twice."""
        self._closed = True
        await end_tasks(self._task, self._watch)
        for timer in (self._check, self._pause):
            if timer is not None:
                timer.cancel()
        self.fail(BusUnavailable("the connection to the bus was closed before this was stored"))

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # A mistake of this library's own: whoever waits must hear of it, and not wait for ever.
            self.fail(UnibusError(f"sending failed for an unforeseen reason: {error!r}"))
            self._task = None

    async def _run(self) -> None:
        away: float | None = None  # since when the control plane does not answer
        pauses = delays()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._send_waiting()
                away, pauses = None, delays()
            except UnibusError as error:
                if not may_pass(error):
                    self.fail(error)
                    continue
                now = self._loop.time()
                away = now if away is None else away
                if now - away < self._deadline:
                    await asyncio.sleep(next(pauses))
                    self._wake.set()
                else:
                    away, pauses = None, delays()
                    self.fail(error)
            except (NatsError, OSError):
                # The connection broke while publishing: what is in flight goes out again on the next one.
                self._wake.set()
                await asyncio.sleep(0)

    async def _send_waiting(self) -> None:
        while self.busy:
            if self._connection is None or self._connection.gone.is_set():
                await self._prepare(False)  # no connection is made for a room that may not be written into
            connection = self._link.up(self._room) or await self._connected()
            fresh = connection is not self._connection
            # What was announced while there was no connection was missed: a removal, a departure, a new key. And last,
            # so that nothing can change between asking for the current key and using it.
            seal = await self._prepare(self._doubt or fresh)
            self._doubt = False
            if fresh:
                await self._begin(connection)
                continue
            if self._flights.held:
                if self._flights.overtaken:
                    await self._reseal()
                for flight in self._flights.due():
                    self._publish(flight, connection)
                return
            if len(self._flights) >= IN_FLIGHT or self._flights.size >= self._pace.window:
                return
            batch = self._waiting.take(self._pace.frame)
            if batch is None:
                return
            now = self._loop.time()
            frame = seal(batch.messages, unsettled=self._flights.unsettled)
            flight = Flight(frame, batch, now + self._deadline, now)
            self._flights.add(flight)
            self._publish(flight, connection)
            if not self._waiting.size:
                return

    async def _reseal(self) -> None:
        self._abandon()
        seal = await self._prepare(False)
        # Meanwhile some may have failed; the others are where they were, because nothing is on its way.
        for flight in self._flights.overtaken:
            flight.reseal(seal(flight.batch.messages, instead=(flight.session, flight.counter)))

    async def _connected(self) -> Connection:
        try:
            async with asyncio.timeout(self._deadline):
                return await self._link.connection(self._room)
        except TimeoutError as error:
            raise self._not_stored() from error

    def _not_stored(self) -> BusUnavailable:
        return BusUnavailable(f"the bus did not store this within {self._deadline:g} s")

    async def _begin(self, connection: Connection) -> None:
        if connection is not self._heard:  # the same one comes again when a frame was not acknowledged in time
            await connection.nats.hear(f"{connection.inbox}.{self._room}.*.*", self._acknowledged)
            self._heard = connection
        self._connection = connection
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.create_task(self._wake_when_gone(connection), name=f"outbox watch {self._room}")
        self._flights.trouble()

    async def _wake_when_gone(self, connection: Connection) -> None:
        await connection.gone.wait()
        self._wake.set()

    def _publish(self, flight: Flight, connection: Connection) -> None:
        flight.sent = self._loop.time()
        if self._check is None:
            self._check = self._loop.call_later(ACK_SECONDS, self._look)
        condition = NEVER if flight.state == "asked" else ""
        connection.nats.post(
            self._subject,
            f"{connection.inbox}.{self._room}.{flight.message_id}.{self._flights.round}",
            f"NATS/1.0\r\nNats-Msg-Id: {flight.message_id}\r\n{condition}\r\n".encode(),
            flight.frame,
        )

    def _look(self) -> None:
        """See whether anything waits for its acknowledgement for too long."""
        self._check, now = None, self._loop.time()
        for flight in self._flights.open:
            if now >= flight.expires:
                self._finish(flight, self._not_stored())
        sent = [flight.sent for flight in self._flights.open if flight.state in {"out", "asked"}]
        left = min(sent, default=now) + ACK_SECONDS - now
        if sent and left <= 0:
            self._pace.overdue()
            self._overdue()
        if len(self._flights):
            self._check = self._loop.call_later(left if left > 0 else ACK_SECONDS, self._look)

    def _overdue(self) -> None:
        """Make _send_waiting find out what was stored, on whatever connection is up then."""
        self._pause = None
        if self._connection is not None:
            self._link.unanswered(self._connection)
        self._connection = None
        self._doubt = True
        self._wake.set()

    def _acknowledged(self, msg: Msg) -> None:
        *_, message_id, in_round = msg.subject.split(".")
        flight = self._flights.find(message_id)
        if flight is None:
            return
        outcome = read_ack(msg.data, msg.headers)
        if outcome is None:
            # The stream has no leader now. That it takes a while is known, and an election ends sooner than a time-out.
            self._flights.later(flight)
            if self._pause is None:
                self._pause = self._loop.call_later(next(self._unready), self._overdue)
            return
        self._unready = delays(cap=UNREADY_CAP)
        if self._heard is not None:
            self._heard.answered()
        if outcome is ABSENT:
            self._flights.absent(flight, int(in_round))
        else:
            if not self._flights.held:
                self._pace.acknowledged(len(flight.frame), flight.on_way, self._loop.time() - flight.sent)
            self._finish(flight, outcome)
        if self._flights.held:
            self._wake.set()

    def _finish(self, flight: Flight, outcome: int | UnibusError) -> None:
        if isinstance(outcome, UnibusError):
            self._flights.drop(flight)
            self._abandon()
        else:
            self._flights.stored(flight)
        self._settle(flight.batch, outcome)
        self._progress.set()
        if self._waiting.size:
            self._wake.set()

    def fail(self, error: UnibusError) -> None:
        """Fail everything that waits or is on its way."""
        for flight in self._flights.open:
            self._finish(flight, error)
        for batch in self._waiting.take_all():
            self._settle(batch, error)
        self._progress.set()

    def _settle(self, batch: Batch, outcome: int | UnibusError) -> None:
        if isinstance(outcome, UnibusError):
            self._failure = self._failure or outcome
        batch.settle(outcome)


def may_pass(error: UnibusError) -> bool:
    """Whether what was asked of the control plane, to seal a frame, may be had if it is asked for again."""
    return error.status in PASSING and not isinstance(error, Untrusted | BusUnavailable)


def read_ack(data: bytes, headers: dict[str, str] | None) -> int | UnibusError | Literal[Answer.ABSENT] | None:
    """What JetStream's publish acknowledgement says: the frame's number, a refusal, or None for try again later.

    ABSENT is the answer to what was not to be stored, and is not there.
    """
    if headers and headers.get("Status"):
        return None  # no responders: the stream is not there yet, after a restart
    stored = _STORED.fullmatch(data)
    if stored is not None:
        return int(stored[1])
    try:
        answer = load_json(data)
    except InvalidInput:
        return None
    match answer:
        case {"error": {"description": str(text), "code": int(code), **more}}:
            return _refused(text, code, more.get("err_code"))
        case {"seq": int(sequence)} if sequence > 0:
            return sequence
        case _:
            return None


def _refused(text: str, code: int, reason: object) -> UnibusError | Literal[Answer.ABSENT] | None:
    if reason == ABSENT_REASON:
        return ABSENT
    if reason == BEING_STORED:
        return None
    if reason == FULL or text in CLOSED:
        return StorageUnavailable("the bus has no room for more messages: have an admin look at /healthz")
    # 429: more waits to be stored than the bus takes. From 500 on it is the server's own trouble. Both pass.
    return LimitReached(f"the bus refused the message: {text}") if code < 500 and code not in PASSING else None
