"""The client's connection to the NATS plane, kept up: connects, connects again with backoff, tells who wants to know.

A connection names the rooms that it opens, because what it may publish and hear of them is fixed when it is made.
Reconnecting is ours, not the NATS client's: every connection is new, with new rooms in its token, and what hangs
on it (subscriptions, deliveries, unacknowledged frames) is made again by its owners. A node whose server does not take
connections, does not answer any more or is about to end is left for another. Never reads a message.
"""

import asyncio
import logging
import random
import ssl
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from unibus.client.backoff import PASSING, delays
from unibus.client.connection import CONNECT_SECONDS, Connection, dial
from unibus.crypto.identity import Identity
from unibus.errors import (
    BusUnavailable,
    CertificateRefused,
    Forbidden,
    LimitReached,
    TlsDowngraded,
    UnibusError,
    Untrusted,
)
from unibus.tasks import end_tasks

ROOMS_CARRIED = 200
ROOMS_HEARD = 100  # of these; what is left is for writing by turns
STEADY_SECONDS = 5.0  # a connection that lasted as long was no failed attempt
PROBE_SECONDS = 2
LEAVE_SECONDS = 6.0  # without an answer to anything, after which another node may do better
GOING_SECONDS = 1.0  # within which the clients of a server that is about to end leave it, each at a time of its own

_TOO_LATE = "authentication timeout"  # nats-server's word when nobody has said in time who may come in

log = logging.getLogger("unibus.client")


class Link:
    """Keeps one `Connection` up while it is wanted.

    `locate` gives the NATS address now, and whom to trust there if it has TLS; `allowed` returns while this identity is
    on the bus and raises the reason when it is not, which ends the link; `may_hear` and `may_write` say which rooms are
    open to this identity, as far as it knows; `on_event` gets announcements; `on_up` is called for every new
    connection, before which some may have been missed; `leave` has another node located the next time, if there
    is one, and says how many there are.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        locate: Callable[[], Awaitable[tuple[str, ssl.SSLContext | None]]],
        allowed: Callable[[], Awaitable[object]],
        may_hear: Callable[[str], bool],
        may_write: Callable[[str], bool],
        on_event: Callable[[bytes], None],
        on_up: Callable[[], None],
        leave: Callable[[], int] = lambda: 1,
    ) -> None:
        self._identity = identity
        self._locate = locate
        self._allowed = allowed
        self._may_hear = may_hear
        self._may_write = may_write
        self._on_event = on_event
        self._on_up = on_up
        self._leave = leave
        self._probing: asyncio.Task[None] | None = None
        self._rooms: OrderedDict[str, None] = OrderedDict()
        self._held: set[str] = set()
        self._connection: Connection | None = None
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self._failure: UnibusError | None = None

    def start(self) -> None:
        """Begin to connect, if it has not begun."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="bus link")

    async def close(self) -> None:
        """End the connection and stop connecting. Safe to call twice."""
        await end_tasks(self._task, self._probing)
        await self._fail(BusUnavailable("the connection to the bus is closed"))

    async def connection(self, room: str | None = None, *, write: bool = True) -> Connection:
        """A live connection, one that may write into `room`, or only hear its signals, if given. Waits for it.

        Raises what ended the link: NotAUser after a revocation, BusUnavailable after `close`. Raises Forbidden.
        """
        self.start()
        if room is not None:
            self.carry(room)
        while True:
            if self._failure is not None:
                raise self._failure
            current = self._connection
            if current is not None and not current.gone.is_set():
                if room is None or current.carries(room, write=write):
                    return current
                if not (self._may_write if write else self._may_hear)(room):
                    raise Forbidden("this room takes no messages from you" if write else "this room is closed to you")
                await current.close()
            async with self._changed:
                if self._connection is current and self._failure is None:
                    await self._changed.wait()

    def up(self, room: str) -> Connection | None:
        """The connection of now, if it may write into `room`: what `connection` would give without waiting."""
        current = self._connection
        if current is None or self._failure is not None or current.gone.is_set():
            return None
        if not current.carries(room, write=True):
            return None
        self.carry(room)
        return current

    def carry(self, room: str) -> None:
        """From the next connection on, open `room` too. The longest unused give way to new ones."""
        self._rooms[room] = None
        self._rooms.move_to_end(room)
        while len(self._rooms) > ROOMS_CARRIED:
            del self._rooms[next(room for room in self._rooms if room not in self._held)]

    @property
    def rooms(self) -> tuple[str, ...]:
        """What the next connection opens, as far as it may."""
        return tuple(self._rooms)

    def hold(self, room: str) -> None:
        """Open `room` on every connection from the next on, until `release`. Raises LimitReached."""
        if len(self._held | {room}) > ROOMS_HEARD:
            raise LimitReached(f"signals of at most {ROOMS_HEARD} rooms are heard at once: connect again for more")
        self._held.add(room)
        self.carry(room)

    def release(self, room: str) -> None:
        """Let `room` give way to others again."""
        self._held.discard(room)

    def unanswered(self, connection: Connection) -> None:
        """Something asked over `connection` was not answered in time: it ends if it is dead, or of no use for long."""
        if connection.gone.is_set() or (self._probing is not None and not self._probing.done()):
            return
        self._probing = asyncio.create_task(self._probe(connection), name="bus link probe")

    def doubt(self) -> None:
        """There is reason to think that the connection of now is dead, if there is one: it is tried."""
        if self._connection is not None:
            self.unanswered(self._connection)

    async def leave(self, connection: Connection) -> bool:
        """End `connection` and go to another node. False, and nothing is done, where there is none."""
        if self._leave() == 1:
            return False
        await connection.close()
        return True

    async def _probe(self, connection: Connection) -> None:
        silent = connection.unanswered(asyncio.get_running_loop().time())
        try:
            await connection.nats.flush(PROBE_SECONDS)
        except (NatsError, OSError, TimeoutError):
            self._leave()
            await connection.close()
        else:
            if silent >= LEAVE_SECONDS:
                await self.leave(connection)

    async def _run(self) -> None:
        try:
            await self._keep_up()
        except Exception as error:
            # Whatever ended it, nobody may wait for a connection that never comes.
            log.exception("the link to the bus has failed")
            await self._fail(BusUnavailable(f"the connection to the bus cannot be kept up: {error!r}"))

    async def _keep_up(self) -> None:
        loop = asyncio.get_running_loop()
        pauses, unfit = delays(), 0
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._connect()
            except (NatsError, OSError, TimeoutError, UnibusError) as error:
                log.debug("bus not reached: %s", error)
                # A node that is not to be trusted is passed over for another, and named when no other is left.
                unfit = unfit + 1 if isinstance(error, CertificateRefused | TlsDowngraded) else 0
                refusal = None if 0 < unfit < self._leave() else await self._refusal(error)
                if refusal is not None:
                    await self._fail(refusal)
                    return
                await asyncio.sleep(next(pauses))
                continue
            began, unfit = loop.time(), 0
            await self._publish(connection)
            self._on_up()
            await self._until_gone(connection)
            if loop.time() - began >= STEADY_SECONDS:
                pauses = delays()
            if not connection.given_up:
                # All clients of a server that ends lose it at one moment; and one that lets in and cuts off is no bus.
                await asyncio.sleep(next(pauses))

    async def _until_gone(self, connection: Connection) -> None:
        gone = asyncio.ensure_future(connection.gone.wait())
        going = asyncio.ensure_future(connection.going.wait())
        try:
            await asyncio.wait([gone, going], return_when=asyncio.FIRST_COMPLETED)
            if not gone.done() and self._leave() > 1:
                await asyncio.wait([gone], timeout=random.uniform(0, GOING_SECONDS))  # noqa: S311 - a spread, no secret
            else:
                await gone
        finally:
            for waiting in (gone, going):
                waiting.cancel()
            await connection.close()

    async def _refusal(self, error: Exception) -> UnibusError | None:
        """Why a failed attempt was the last one, or None if another may succeed."""
        if unheard(error):
            return None
        try:
            if isinstance(error, UnibusError):
                raise error
            await self._allowed()
        except UnibusError as reason:
            if isinstance(reason, Untrusted) or (reason.status < 500 and reason.status not in PASSING):
                return reason
        return None

    async def _connect(self) -> Connection:
        address, tls = await self._locate()
        # A right that is given later is not held by this connection: whoever needs it then makes a new one.
        rooms = frozenset(room for room in self._rooms if self._may_hear(room))
        writes = frozenset(room for room in rooms if self._may_write(room))
        return await dial(self._identity, address, tls, rooms=rooms, writes=writes, on_event=self._event)

    async def _event(self, msg: Msg) -> None:
        self._on_event(msg.data)

    async def _publish(self, connection: Connection) -> None:
        async with self._changed:
            self._connection = connection
            self._changed.notify_all()

    async def _fail(self, reason: UnibusError) -> None:
        async with self._changed:
            self._failure = self._failure or reason
            self._changed.notify_all()


def unheard(error: Exception) -> bool:
    """Whether an attempt failed because the bus, or the node, has too much to do to look at who comes.

    That says nothing about this identity, and to ask the control plane about it would be one more question from each of
    very many who come back at one moment.
    """
    return isinstance(error, TimeoutError) or _TOO_LATE in str(error).lower()
