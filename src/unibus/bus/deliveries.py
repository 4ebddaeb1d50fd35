"""Opens and ends deliveries: members ask on the bus, the policy decides, JetStream gets a consumer made or removed.

Members have no JetStream API, so every read goes through here. Must never leave a consumer behind for somebody who
lost the room while it was being made.
"""

import asyncio

import nats.errors
from nats.aio.msg import Msg
from structlog.typing import FilteringBoundLogger

from unibus.bus import delivery_book, stream
from unibus.bus.links import Links
from unibus.bus.options import BusAuth
from unibus.bus.workers import Workers
from unibus.crypto.encoding import dump_json
from unibus.errors import BusUnavailable, NotFound, UnibusError
from unibus.model import subjects
from unibus.services.ports import BusPolicy

MOST_AT_ONCE = 64
_GONE = f"$JS.EVENT.ADVISORY.CONSUMER.DELETED.{subjects.STREAM}.>"
_CONSUMER = f"{subjects.STREAM}.%s"


class Deliveries:
    """The deliveries of one life of the server."""

    def __init__(self, links: Links, policy: BusPolicy, mode: BusAuth, log: FilteringBoundLogger) -> None:
        self._links = links
        self._policy = policy
        self._mode = mode
        self._log = log
        self._book = delivery_book.Book()
        self._workers = Workers("delivery", MOST_AT_ONCE, log)

    def __len__(self) -> int:
        return len(self._book)

    async def start(self) -> None:
        """Begin to take requests."""
        await self._links.core.subscribe(_GONE, cb=self._gone)
        await self._links.core.subscribe(subjects.control("*", subjects.DELIVER), cb=self._asked)
        await self._links.core.flush()

    async def close(self) -> None:
        """Stop opening deliveries."""
        await self._workers.close()

    async def end(self, user: str, room: str | None = None) -> None:
        """End the deliveries of `user`, or only those of `room`; then none is fed any more. Raises BusUnavailable."""
        ending = self._book.of(user, room)
        for delivery in ending:
            self._book.strike(delivery.token)
        await asyncio.gather(*(self._delete(delivery) for delivery in ending))

    async def _asked(self, message: Msg) -> None:
        if self._workers.full:
            # Of the kind that passes: a reader who comes too late tries again by itself.
            await self._answer(message, _problem(BusUnavailable("too many ask for deliveries at once: ask again")))
        else:
            self._workers.run(self._handle(message))

    async def _handle(self, message: Msg) -> None:
        try:
            # The permission to publish here proved the user, who is the subject's second part.
            answer: dict[str, object] = {"after": await self._open(message.subject.split(".")[1], message.data)}
        except UnibusError as error:
            answer = _problem(error)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong inside, the outside hears an answer
            self._log.error("a delivery could not be opened", exc_info=error)
            answer = _problem(UnibusError())
        await self._answer(message, answer)

    async def _open(self, user: str, data: bytes) -> int:
        """Open the delivery that `data` asks for; the sequence after which it begins."""
        delivery, asked_after = delivery_book.read_request(user, data)
        await self._check(delivery)
        self._book.enter(delivery)
        try:
            after = await self._feed(delivery, asked_after)
        except BaseException:
            self._book.strike(delivery.token)
            await self._delete(delivery)
            raise
        return after

    async def _feed(self, delivery: delivery_book.Delivery, asked_after: int | None) -> int:
        """Have JetStream push the room to the reader; the sequence after which that begins."""
        last = await stream.last_sequence(self._links)
        # Beyond the end lies nothing yet: to begin there would skip what comes first.
        after = last if asked_after is None else min(asked_after, last)
        made = await self._links.jetstream(
            f"CONSUMER.CREATE.{_CONSUMER % delivery.token}.{subjects.room_messages(delivery.room)}",
            delivery_book.consumer(delivery, after),
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

    async def _delete(self, delivery: delivery_book.Delivery) -> None:
        await self._links.jetstream(f"CONSUMER.DELETE.{_CONSUMER % delivery.token}")

    async def _gone(self, message: Msg) -> None:
        self._book.strike(message.subject.rpartition(".")[2])

    async def _answer(self, message: Msg, answer: dict[str, object]) -> None:
        if not message.reply:
            return
        try:
            await message.respond(dump_json(answer))
        except nats.errors.Error as error:
            # The link is lost: the server's life ends for that, and the reader asks anew in the next.
            self._log.warning("a request for a delivery could not be answered", reason=str(error))


def _problem(error: UnibusError) -> dict[str, object]:
    return {"error": {"code": error.code, "message": error.message}}
