"""One connection to the NATS plane: proven with the identity's key, and what is known of how it is.

What it may publish and hear of rooms is fixed when it is made. Never signs anything for a server but a nonce.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import ssl
from base64 import b64encode
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, MaxPayloadError
from nats.errors import Error as NatsError

from unibus import natspy
from unibus.client.trust import refused
from unibus.crypto.encoding import b64u
from unibus.crypto.identity import Identity
from unibus.crypto.nkeys import SigningKey
from unibus.errors import InvalidInput, Untrusted
from unibus.model.subjects import events, inbox_prefix
from unibus.tasks import end_tasks

CONNECT_SECONDS = 5
CLOSE_SECONDS = 2
PING_SECONDS = 3  # a peer that has gone without a word is noticed after three of these
_STATUS = len(b"NATS/1.0")  # in a header block, where a status follows if one does
_REFUSED = re.compile(r'permissions violation for [a-z]+ to "room\.([a-z2-7]{26})\.')

T = TypeVar("T")

log = logging.getLogger("unibus.client")


class _Reading(natspy.Wire):
    """Whatever is read is a sign of life: over a slow link the answer to a PING is behind it."""

    async def parse(self, data: bytes = b"") -> None:
        """See `Wire.parse`."""
        if data:
            self.nc._pings_outstanding = 0  # noqa: SLF001 - what nats-py does for a PONG
        await super().parse(data)


class Client(natspy.Client):
    """nats-py's client for one identity. Given a seed, nats-py signs whatever the server sends; here, only nonces.

    Frames do not take nats-py's way through queues and tasks of its own: each of these is one more turn of the event
    loop, and together they cost more than the cryptography. `post` and `hear` are what is left of that way.
    """

    def __init__(self, key: SigningKey) -> None:
        super().__init__()
        self._reading = self._ps = _Reading(self)
        self._public_nkey = key.public
        self._key = key

    def prove(self, nonce: str) -> bytes:
        """The signature over the server's nonce, in base64. Raises Untrusted for what is not a nonce."""
        try:
            return b64encode(self._key.sign_nonce(nonce.encode()))
        except InvalidInput as error:
            raise Untrusted(error.message) from error

    def post(self, subject: str, reply: str, headers: bytes, payload: bytes) -> None:
        """Publish now: it is written before this returns, after all that waited to be written.

        `headers` is a whole NATS header block. Raises ConnectionClosedError, MaxPayloadError.
        """
        if not self.is_connected or self._transport is None:
            raise ConnectionClosedError
        if len(payload) > self.max_payload:
            raise MaxPayloadError
        sizes = f"{len(headers)} {len(headers) + len(payload)}"
        self._pending += (f"HPUB {subject} {reply} {sizes}\r\n".encode(), headers, payload, b"\r\n")
        self._transport.writelines(self._pending)
        self._pending, self._pending_data_size = [], 0

    async def hear(self, subject: str, take: Callable[[Msg], None]) -> Subscription:
        """Subscribe; `take` gets each message as soon as it is read, and must not take long.

        Only status messages show their headers. Nothing is ever dropped.
        """
        return await self.subscribe(subject, cb=partial(_handed, take), pending_msgs_limit=-1, pending_bytes_limit=-1)

    def half(self, subscription: Subscription) -> int:
        """How many bytes have come of the next message to `subscription`; 0 while none is on its way."""
        return self._reading.half(subscription._id)  # noqa: SLF001 - nats-py shows it nowhere else

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        found = self._subs.get(sid)
        handed = found._cb if found is not None else None  # noqa: SLF001 - nats-py shows it nowhere else
        if not isinstance(handed, partial) or handed.func is not _handed:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        shown = await self._process_headers(headers) if headers and headers[_STATUS : _STATUS + 1] == b" " else None
        try:
            handed.args[0](self._build_message(sid, subject, reply, data, shown))
        except Exception as error:  # noqa: BLE001 - as nats-py does it: one bad message must not end the reading
            await self._error_cb(error)

    async def end(self) -> None:
        """Close it, and let go of its socket however that goes."""
        # nats-py's close can wait for ever on a connection that is breaking at that moment, or is silent.
        try:
            with contextlib.suppress(NatsError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self.close()
        finally:
            writer = getattr(self._transport, "_io_writer", None)
            if writer is not None:
                writer.transport.abort()


async def _handed(take: Callable[[Msg], None], msg: Msg) -> None:
    take(msg)


class Connection:
    """One live NATS connection: `nats` to use, `gone` is set when it has ended, `going` when its server will end it.

    `rooms` are those whose signals it may hear, `writes` those it may also write into, as far as is known here.
    """

    def __init__(self, nats: Client, rooms: frozenset[str], writes: frozenset[str]) -> None:
        self.nats = nats
        self.rooms = rooms
        self.writes = writes
        self.gone = asyncio.Event()
        self.going = asyncio.Event()
        self.given_up = False  # by this side, on purpose
        self._unanswered: float | None = None
        self._refused: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.inbox = f"{inbox_prefix_of(nats)}.{b64u(secrets.token_bytes(16))}"

    def carries(self, room: str, *, write: bool) -> bool:
        """Whether `room` can be heard, or written into, over this connection."""
        return room in (self.writes if write else self.rooms) and not self._refused[room].is_set()

    def refused(self, room: str) -> None:
        """The bus refused something in `room`: what was believed when the connection was made no longer holds."""
        self._refused[room].set()

    def complained(self, words: str) -> None:
        """The bus says what it refused; who waits for an answer learns of it because none comes."""
        found = _REFUSED.search(words)
        if found is not None:
            self.refused(found[1])

    async def without(self, room: str) -> None:
        """Return once this connection is of no more use for `room`: it is gone, or the bus refused something there."""
        ends = [asyncio.ensure_future(event.wait()) for event in (self.gone, self._refused[room])]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(*ends)

    async def request(self, subject: str, body: bytes, seconds: float) -> bytes:
        """The answer to a request, which fails at once when the connection ends. Raises NatsError, TimeoutError."""
        return (await self.unless_gone(self.nats.request(subject, body, timeout=seconds))).data

    async def unless_gone(self, asking: Coroutine[Any, Any, T]) -> T:
        """What `asking` gives. Raises ConnectionClosedError as soon as the connection ends: nats-py would wait on."""
        asked, ended = asyncio.ensure_future(asking), asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({asked, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise ConnectionClosedError
            return await asked
        finally:
            await end_tasks(asked, ended)

    def answered(self) -> None:
        """Something that was asked over this connection was answered."""
        self._unanswered = None

    def unanswered(self, now: float) -> float:
        """Something was not answered in time, at `now`: for how many seconds nothing has been, as far as was said."""
        self._unanswered = now if self._unanswered is None else self._unanswered
        return now - self._unanswered

    async def close(self) -> None:
        """End it. Safe to call twice."""
        self.given_up = self.given_up or not self.gone.is_set()
        self.gone.set()
        await self.nats.end()


def inbox_prefix_of(nats: Client) -> str:
    """The prefix that the connection's replies go under."""
    return nats.new_inbox().rpartition(".")[0]


async def dial(
    identity: Identity,
    address: str,
    tls: ssl.SSLContext | None,
    *,
    rooms: frozenset[str],
    writes: frozenset[str],
    on_event: Callable[[Msg], Awaitable[None]],
) -> Connection:
    """A connection to `address`, over TLS with `tls`, that hears `rooms` and may write into `writes`.

    `on_event` gets announcements. Raises NatsError, OSError, TimeoutError, CertificateRefused, Untrusted.
    """
    nats = Client(identity.signing)
    made: list[Connection] = []

    async def ended() -> None:
        for connection in made:
            connection.gone.set()

    async def going() -> None:
        for connection in made:
            connection.going.set()

    async def complain(error: Exception) -> None:
        log.debug("the bus says: %s", error)
        for connection in made:
            connection.complained(str(error))

    try:
        await nats.connect(
            address,
            signature_cb=nats.prove,
            token="rooms=" + ",".join(sorted(rooms)),
            inbox_prefix=inbox_prefix(identity.user).encode(),
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECT_SECONDS,
            ping_interval=PING_SECONDS,
            disconnected_cb=ended,
            closed_cb=ended,
            error_cb=complain,
            lame_duck_mode_cb=going,
            tls=tls,
            # Nothing goes over the wire before TLS: a server's INFO could otherwise say that there is none.
            tls_handshake_first=tls is not None,
        )
        connection = Connection(nats, rooms, writes)
        made.append(connection)
        await nats.subscribe(events(identity.user), cb=on_event)
        # From here on nothing announced is missed. nats-py's flush overtakes a subscription that still waits to be
        # written; the second one comes after it for certain.
        await connection.unless_gone(nats.flush(CONNECT_SECONDS))
        await connection.unless_gone(nats.flush(CONNECT_SECONDS))
        if nats.is_closed:
            connection.gone.set()
    except BaseException as error:
        await nats.end()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise refused(address, error) from error
        raise
    return connection
