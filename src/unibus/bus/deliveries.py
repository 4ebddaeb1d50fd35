"""Opens and ends deliveries: members ask on the bus, the policy decides, JetStream gets a consumer made or removed.

Members have no JetStream API, so every read goes through here. Must never leave a consumer behind for somebody who
lost the room while it was being made. In a cluster that is choosing its leader none can be removed: whose deliveries
linger then is kept out until they are.
"""

import asyncio
import contextlib

import nats.errors
from nats.aio.msg import Msg
from structlog.typing import FilteringBoundLogger

from unibus.bus import delivery_book, stream
from unibus.bus.cluster import Seat, own_control
from unibus.bus.links import Links
from unibus.bus.options import BusAuth
from unibus.bus.posture import leading
from unibus.bus.workers import Workers
from unibus.crypto.encoding import dump_json
from unibus.errors import BusUnavailable, NotFound, UnibusError
from unibus.model import subjects
from unibus.services.ports import BusPolicy, Undelivered
from unibus.tasks import end_tasks

MOST_AT_ONCE = 64
END_WITHIN = 2.0
"""Seconds that a cluster has to end a delivery before its user is sent away."""
_AGAIN = 0.5
_CATCHES_UP = 3.0
"""Seconds after which a leader that was just elected knows what it leads."""
_GONE = f"$JS.EVENT.ADVISORY.CONSUMER.DELETED.{subjects.STREAM}.>"
_CONSUMER = f"{subjects.STREAM}.%s"


class Deliveries:
    """The deliveries of one life of the server; with `seat`, of one in a cluster."""

    def __init__(
        self,
        links: Links,
        policy: BusPolicy,
        mode: BusAuth,
        log: FilteringBoundLogger,
        seat: Seat | None = None,
        *,
        undelivered: Undelivered = lambda _user, _room, _error: None,
    ) -> None:
        self._links = links
        self._policy = policy
        self._mode = mode
        self._log = log
        self._undelivered = undelivered
        self._book = delivery_book.Book()
        self._seat = seat
        self._lingering: dict[str, delivery_book.Delivery] = {}
        self._withheld: set[str] = set()
        self._denied: dict[str, tuple[str | None, float]] = {}
        """Who denied first that there is a delivery which lingers, and when."""
        self._ending: asyncio.Task[None] | None = None
        self._workers = Workers("delivery", MOST_AT_ONCE, log)

    def __len__(self) -> int:
        return len(self._book)

    async def start(self) -> None:
        """Begin to take requests."""
        await self._links.core.subscribe(_GONE, cb=self._gone)
        await self._links.core.subscribe(own_control(self._seat.node if self._seat else None), cb=self._asked)
        await self._links.core.flush()

    async def close(self) -> None:
        """Stop opening deliveries."""
        await self._workers.close()
        await end_tasks(self._ending)

    async def end(self, user: str, room: str | None = None) -> None:
        """End the deliveries of `user`, or only those of `room`; then none is fed any more, or the user `lingers`.

        Raises BusUnavailable outside of a cluster.
        """
        ending = self._book.of(user, room)
        for delivery in ending:
            self._book.strike(delivery.token)
        lingering = [found for found in self._lingering.values() if found.user == user and room in {None, found.room}]
        self._withheld.update(delivery.token for delivery in lingering)
        await asyncio.gather(*(self._delete(delivery, withheld=True) for delivery in ending))

    def lingers(self, user: str) -> bool:
        """Whether something that was taken from `user` may still be fed."""
        return any(self._lingering[token].user == user for token in self._withheld)

    def gone(self, token: str) -> None:
        """The delivery called `token` is said to be no more.

        That may be about one before it: somebody who used a token again would have a delivery that no book knows. So
        one that was not ended from here is ended once more.
        """
        if (delivery := self._book.strike(token)) is not None:
            self._linger(delivery, withheld=False)

    async def _asked(self, message: Msg) -> None:
        if self._workers.full:
            # Of the kind that passes: a reader who comes too late tries again by itself.
            await self._answer(message, _problem(BusUnavailable("too many ask for deliveries at once: ask again")))
        else:
            self._workers.run(self._handle(message))

    async def _handle(self, message: Msg) -> None:
        # The permission to publish here proved the user, who is the subject's last part but one.
        user, room = message.subject.split(".")[-2], None
        try:
            delivery, asked_after = delivery_book.read_request(user, message.data)
            room = delivery.room
            answer: dict[str, object] = {"after": await self._open(delivery, asked_after)}
        except UnibusError as error:
            self._undelivered(user, room, error)
            answer = _problem(error)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong inside, the outside hears an answer
            self._log.error("a delivery could not be opened", exc_info=error)
            answer = _problem(UnibusError())
        await self._answer(message, answer)

    async def _open(self, delivery: delivery_book.Delivery, asked_after: int | None) -> int:
        """Open the delivery; the sequence after which it begins."""
        await self._check(delivery)
        self._book.enter(delivery)
        try:
            after = await self._feed(delivery, asked_after)
        except BaseException as error:
            self._book.strike(delivery.token)
            await self._delete(delivery, withheld=not isinstance(error, BusUnavailable))  # refused, and not only late
            raise
        return after

    async def _feed(self, delivery: delivery_book.Delivery, asked_after: int | None) -> int:
        """Have JetStream push the room to the reader; the sequence after which that begins."""
        last = await stream.last_sequence(self._links)
        # Beyond the end lies nothing yet: to begin there would skip what comes first.
        after = last if asked_after is None else min(asked_after, last)
        made = await self._links.jetstream(
            f"CONSUMER.CREATE.{_CONSUMER % delivery.token}.{subjects.room_messages(delivery.room)}",
            delivery_book.consumer(delivery, after, self._seat.server if self._seat else None),
        )
        if made is None:
            raise BusUnavailable("the stream of frames is gone: restore the data directory")
        # The room may have been withdrawn meanwhile: from the book, or in a policy that had not yet told.
        if delivery not in self._book:
            raise NotFound
        await self._check(delivery)
        return after

    async def _check(self, delivery: delivery_book.Delivery) -> None:
        if self._mode is BusAuth.OFF:
            return
        try:
            await self._policy.may_read(delivery.user, delivery.room)
        except UnibusError as error:
            if self._mode is BusAuth.ENFORCE:
                raise
            self._log.warning(
                "enforce would refuse this delivery", user=delivery.user, room=delivery.room, code=error.code
            )

    async def _delete(self, delivery: delivery_book.Delivery, *, withheld: bool) -> None:
        if self._seat is None:
            await self._links.jetstream(f"CONSUMER.DELETE.{_CONSUMER % delivery.token}")
            return
        try:
            await self._delete_for_all(delivery.token, self._seat)
        except BusUnavailable as error:
            self._log.warning("a delivery could not be ended yet", user=delivery.user, reason=error.message)
            self._linger(delivery, withheld=withheld)

    def _linger(self, delivery: delivery_book.Delivery, *, withheld: bool) -> None:
        self._lingering[delivery.token] = delivery
        if withheld:
            self._withheld.add(delivery.token)
        if self._ending is None or self._ending.done():
            self._ending = asyncio.create_task(self._end_lingering(), name="deliveries to end")

    async def _delete_for_all(self, token: str, seat: Seat | None) -> None:
        """Raises BusUnavailable unless a leader says that the consumer is gone, or says twice that there is none.

        A server that has no leader denies that there is a consumer which is merely on another, and so may a leader that
        was just elected and has not caught up.
        """
        leader = await leading(self._links, seat.node) if seat else None
        found = await self._links.jetstream(f"CONSUMER.DELETE.{_CONSUMER % token}", within=END_WITHIN)
        if found is None and seat is not None:
            if await leading(self._links, seat.node) != leader:
                raise BusUnavailable("the cluster has changed its leader")
            now = asyncio.get_running_loop().time()
            by, at = self._denied.setdefault(token, (leader, now))
            if by != leader:
                self._denied[token] = (leader, now)
            if by != leader or now - at < _CATCHES_UP:
                raise BusUnavailable("the cluster's leader knows of none, and is asked once more")
        self._denied.pop(token, None)

    async def _end_lingering(self) -> None:
        while self._lingering:
            for token in tuple(self._lingering):
                with contextlib.suppress(BusUnavailable):
                    await self._delete_for_all(token, self._seat)
                    del self._lingering[token]
                    self._withheld.discard(token)
            await asyncio.sleep(_AGAIN)

    async def _gone(self, message: Msg) -> None:
        self.gone(message.subject.rpartition(".")[2])

    async def _answer(self, message: Msg, answer: dict[str, object]) -> None:
        if not message.reply:
            return
        try:
            # Not as nats-py responds: with the headers of who asked, to whomever they named.
            await self._links.core.publish(message.reply, dump_json(answer))
        except nats.errors.Error as error:
            # The link is lost: the server's life ends for that, and the reader asks anew in the next.
            self._log.warning("a request for a delivery could not be answered", reason=str(error))


def _problem(error: UnibusError) -> dict[str, object]:
    return {"error": {"code": error.code, "message": error.message}}
