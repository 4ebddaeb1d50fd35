"""The client's connection to the NATS plane, kept up: connects, connects again with backoff, tells who wants to know.

A connection names the rooms that it opens, because what it may publish and hear of them is fixed when it is made.
Reconnecting is ours, not the NATS client's: every connection is new, with new rooms in its token, and what hangs
on it (subscriptions, deliveries, unacknowledged frames) is made again by its owners. Never reads a message.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import ssl
from base64 import b64encode
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError
from nats.errors import Error as NatsError

from unibus.client.backoff import PASSING, delays
from unibus.client.trust import refused
from unibus.crypto.encoding import b64u
from unibus.crypto.identity import Identity
from unibus.crypto.nkeys import SigningKey
from unibus.errors import BusUnavailable, Forbidden, InvalidInput, LimitReached, UnibusError, Untrusted
from unibus.model.subjects import events, inbox_prefix

CONNECT_SECONDS = 5
CLOSE_SECONDS = 2
ROOMS_CARRIED = 200
ROOMS_HEARD = 100  # of these; what is left is for writing by turns
_REFUSED = re.compile(r'permissions violation for [a-z]+ to "room\.([a-z2-7]{26})\.')

log = logging.getLogger("unibus.client")


class Client(Nats):
    """nats-py's client for one identity. Given a seed, nats-py signs whatever the server sends; here, only nonces."""

    def __init__(self, key: SigningKey) -> None:
        super().__init__()
        self._public_nkey = key.public
        self._key = key

    def prove(self, nonce: str) -> bytes:
        """The signature over the server's nonce, in base64. Raises Untrusted for what is not a nonce."""
        try:
            return b64encode(self._key.sign_nonce(nonce.encode()))
        except InvalidInput as error:
            raise Untrusted(error.message) from error


class Connection:
    """One live NATS connection: `nats` to use, `gone` is set when it has ended.

    `rooms` are those whose signals it may hear, `writes` those it may also write into, as far as is known here.
    """

    def __init__(self, nats: Nats, rooms: frozenset[str], writes: frozenset[str]) -> None:
        self.nats = nats
        self.rooms = rooms
        self.writes = writes
        self.gone = asyncio.Event()
        self._refused: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.inbox = f"{inbox_prefix_of(nats)}.{b64u(secrets.token_bytes(16))}"

    def carries(self, room: str, *, write: bool) -> bool:
        """Whether `room` can be heard, or written into, over this connection."""
        return room in (self.writes if write else self.rooms) and not self._refused[room].is_set()

    def refused(self, room: str) -> None:
        """The bus refused something in `room`: what was believed when the connection was made no longer holds."""
        self._refused[room].set()

    async def without(self, room: str) -> None:
        """Return once this connection is of no more use for `room`: it is gone, or the bus refused something there."""
        ends = [asyncio.ensure_future(event.wait()) for event in (self.gone, self._refused[room])]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def request(self, subject: str, body: bytes, seconds: float) -> bytes:
        """The answer to a request, which fails at once when the connection ends. Raises NatsError, TimeoutError."""
        asked = asyncio.ensure_future(self.nats.request(subject, body, timeout=seconds))
        ended = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise ConnectionClosedError
            return (await asked).data
        finally:
            asked.cancel()
            ended.cancel()
            await asyncio.gather(asked, ended, return_exceptions=True)

    async def close(self) -> None:
        """End it. Safe to call twice."""
        self.gone.set()
        # nats-py's close can wait for ever on a connection that is breaking at that moment.
        with contextlib.suppress(NatsError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self.nats.close()


def inbox_prefix_of(nats: Nats) -> str:
    """The prefix that the connection's replies go under."""
    return nats.new_inbox().rpartition(".")[0]


class Link:
    """Keeps one `Connection` up while it is wanted.

    `locate` gives the NATS address now, and whom to trust there if it has TLS; `allowed` returns while this identity is
    on the bus and raises the reason when it is not, which ends the link; `may_hear` and `may_write` say which rooms are
    open to this identity, as far as it knows; `on_event` gets announcements; `on_up` is called for every new
    connection, before which some may have been missed.
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
    ) -> None:
        self._identity = identity
        self._locate = locate
        self._allowed = allowed
        self._may_hear = may_hear
        self._may_write = may_write
        self._on_event = on_event
        self._on_up = on_up
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
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
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

    async def _run(self) -> None:
        try:
            await self._keep_up()
        except Exception as error:
            # Whatever ended it, nobody may wait for a connection that never comes.
            log.exception("the link to the bus has failed")
            await self._fail(BusUnavailable(f"the connection to the bus cannot be kept up: {error!r}"))

    async def _keep_up(self) -> None:
        pauses = delays()
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    connection = await self._connect()
            except (NatsError, OSError, TimeoutError, UnibusError) as error:
                log.debug("bus not reached: %s", error)
                refusal = await self._refusal(error)
                if refusal is not None:
                    await self._fail(refusal)
                    return
                await asyncio.sleep(next(pauses))
                continue
            pauses = delays()
            await self._publish(connection)
            self._on_up()
            try:
                await connection.gone.wait()
            finally:
                await connection.close()

    async def _refusal(self, error: Exception) -> UnibusError | None:
        """Why a failed attempt was the last one, or None if another may succeed."""
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
        nats = Client(self._identity.signing)
        # A right that is given later is not held by this connection: whoever needs it then makes a new one.
        rooms = frozenset(room for room in self._rooms if self._may_hear(room))
        writes = frozenset(room for room in rooms if self._may_write(room))
        lost: list[Connection] = []

        async def ended() -> None:
            for connection in lost:
                connection.gone.set()

        async def complain(error: Exception) -> None:
            # The bus says here what it refused; who waits for an answer learns of it because none comes.
            log.debug("the bus says: %s", error)
            found = _REFUSED.search(str(error))
            if found is not None:
                for connection in lost:
                    connection.refused(found[1])

        try:
            await nats.connect(
                address,
                signature_cb=nats.prove,
                token="rooms=" + ",".join(sorted(rooms)),
                inbox_prefix=inbox_prefix(self._identity.user).encode(),
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_SECONDS,
                ping_interval=20,
                disconnected_cb=ended,
                closed_cb=ended,
                error_cb=complain,
                tls=tls,
                # Nothing goes over the wire before TLS: a server's INFO could otherwise say that there is none.
                tls_handshake_first=tls is not None,
            )
            connection = Connection(nats, rooms, writes)
            lost.append(connection)
            await nats.subscribe(events(self._identity.user), cb=self._event)
            # From here on nothing announced is missed. nats-py's flush overtakes a subscription that still waits to be
            # written; the second one comes after it for certain.
            await nats.flush(CONNECT_SECONDS)
            await nats.flush(CONNECT_SECONDS)
            if nats.is_closed:
                connection.gone.set()
        except BaseException as error:
            # After a handshake that failed, nats-py closes the socket and then waits for it without end.
            with contextlib.suppress(NatsError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await nats.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise refused(address, error) from error
            raise
        return connection

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
