"""Keeps one room's signals coming in: subscribes, on every new connection again, and hands on what arrives.

Whatever arrives is put into `inbox` unread, bounded and the oldest dropped first: a signal that waited long is worth
nothing. Never opens a frame.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from unibus.client.backoff import PASSING, delays
from unibus.client.connection import CONNECT_SECONDS, Connection
from unibus.client.link import Link
from unibus.client.newest import Newest
from unibus.client.signal_rules import MAX_FRAME
from unibus.crypto.encoding import b64u
from unibus.errors import UnibusError, Untrusted
from unibus.model.subjects import inbox_prefix, room_signals
from unibus.tasks import end_tasks

WAITING = 256  # signals that were not looked at yet


class Hearing:
    """The subscriptions of `user` in one room.

    `may_write` says whether questions can come, too; `news` brings the room up to date; `absent` is told the token of
    a question that nobody heard; `ended` why nothing more will come.
    """

    def __init__(
        self,
        link: Link,
        room: str,
        user: str,
        *,
        may_write: Callable[[], bool],
        news: Callable[[], Awaitable[object]],
        absent: Callable[[str], None],
        ended: Callable[[UnibusError], None],
    ) -> None:
        self._link = link
        self._room = room
        self._user = user
        self._may_write = may_write
        self._news = news
        self._absent = absent
        self._ended = ended
        self._connection: Connection | None = None
        self._changed = asyncio.Condition()
        self._failure: UnibusError | None = None
        self._task: asyncio.Task[None] | None = None
        self.inbox: Newest[Msg] = Newest(WAITING)
        self.replies = f"{inbox_prefix(user)}.{b64u(secrets.token_bytes(16))}"
        """Where the bus says that nobody heard a question: below this, under the question's token.

        Those who are asked see it, so it is no place that anything else is expected at.
        """

    def start(self) -> None:
        """Begin to hear, if it has not begun or has ended."""
        if self._task is None or self._task.done():
            self._failure = None
            self._task = asyncio.create_task(self._run(), name=f"signals of {self._room}")

    async def close(self) -> None:
        """Stop. Safe to call twice."""
        await end_tasks(self._task)

    async def on(self, connection: Connection) -> bool:
        """Whether signals come in over `connection`: True as soon as they do, False if it is gone before.

        Raises what ended the hearing.
        """
        self.start()
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._failure is not None or self._connection is connection or connection.gone.is_set()
            )
        if self._failure is not None:
            raise self._failure
        return self._connection is connection

    async def _run(self) -> None:
        try:
            # Else rooms that are heard would push each other off the connection, without end.
            self._link.hold(self._room)
            await self._keep_up()
        except UnibusError as error:
            self._failure = error
            self._ended(error)
        finally:
            self._link.release(self._room)
            await self._now_on(None)

    async def _keep_up(self) -> None:
        pauses = delays()
        while True:
            connection = await self._link.connection(self._room, write=self._may_write())
            try:
                async with self._subscribed(connection):
                    await self._now_on(connection)
                    await connection.without(self._room)
            except (NatsError, OSError, TimeoutError):
                connection.refused(self._room)
            await self._now_on(None)
            if connection.gone.is_set():
                pauses = delays()
                continue
            # The bus refused a subscription: rights are others than was believed. Ask, before trying anew.
            await asyncio.sleep(next(pauses))
            await self._catch_up()

    async def _catch_up(self) -> None:
        try:
            await self._news()
        except UnibusError as error:
            if error.status not in PASSING or isinstance(error, Untrusted):
                raise

    @asynccontextmanager
    async def _subscribed(self, connection: Connection) -> AsyncGenerator[None, None]:
        nats = connection.nats
        # Only who may write can be asked, or hear an answer; the bus would refuse a reader the other two.
        directed = [room_signals(self._room, "*", self._user)] if self._may_write() else []
        made = [await nats.subscribe(subject, cb=self._arrived) for subject in (room_signals(self._room), *directed)]
        made.append(await nats.subscribe(f"{self.replies}.*", cb=self._replied))
        try:
            # Twice, because nats-py's flush overtakes a subscription that still waits to be written.
            await nats.flush(CONNECT_SECONDS)
            await nats.flush(CONNECT_SECONDS)
            yield
        finally:
            for subscription in made:
                with contextlib.suppress(NatsError, OSError):
                    await subscription.unsubscribe()

    async def _now_on(self, connection: Connection | None) -> None:
        async with self._changed:
            self._connection = connection
            self._changed.notify_all()

    async def _arrived(self, msg: Msg) -> None:
        if len(msg.data) <= MAX_FRAME:
            self.inbox.put(msg)

    async def _replied(self, msg: Msg) -> None:
        if (msg.headers or {}).get("Status") == "503":
            self._absent(msg.subject.rpartition(".")[2])
