"""The auth callout at work: nats-server asks who may connect, the policy decides, this answers.

Every request that can be answered in time is answered, by a refusal if anything at all goes wrong. Answers only for its
own server and without a queue group, because a peer that lags behind could let a removed member in. However many ask at
once, the daemon's other work goes on in between.
"""

import asyncio
import time
from collections.abc import Callable

import nats.errors
from nats.aio.msg import Msg
from structlog.typing import FilteringBoundLogger

from unibus.bus import callout_core as core
from unibus.bus.config import AUTH_TIMEOUT, LOGIN
from unibus.bus.keys import BusKeys
from unibus.bus.links import Links
from unibus.bus.login_queue import LoginQueue
from unibus.bus.options import BusAuth
from unibus.bus.permissions import EVERYTHING, Permissions, permissions
from unibus.bus.registry import Registry
from unibus.bus.workers import Workers
from unibus.errors import Forbidden, InvalidInput, LimitReached, NotAUser, RateLimited, UnibusError
from unibus.model.rates import Rates, address_key
from unibus.services.audit import ACTOR
from unibus.services.ports import BusPolicy, Decided
from unibus.tasks import end_tasks

MOST_AT_ONCE = 512
MOST_OF_ONE = 1000
"""Connections of one user at a server; what one has, nobody else can have."""
LOGINS, LOGINS_AT_ONCE = 50, 500
"""A second from one address: after a restart a thousand clients behind one come back within ten seconds."""
_ADDRESSES = 10_000
_DECIDE_WITHIN = AUTH_TIMEOUT * 0.75
_SLICE = 0.005
"""Seconds for which requests are read before everything else has its turn."""


class Callout:
    """Answers the callouts of one life of the server. `server` is its id (`N…`).

    With `lease`, in seconds, nobody stays longer than one and a half of that without being decided on again. In a
    cluster the account for callouts is `shared` with the other servers. Users that are `withheld` wait outside,
    and those that are `kept_out` for a while, or `shut_out`, for what they did. `monotonic` gives seconds and never
    goes back.
    """

    def __init__(
        self,
        links: Links,
        keys: BusKeys,
        server: str,
        policy: BusPolicy,
        registry: Registry,
        mode: BusAuth,
        *,
        clock: Callable[[], float],
        random: Callable[[int], bytes],
        log: FilteringBoundLogger,
        decided: Decided,
        lease: int | None = None,
        shared: bool = False,
        withheld: Callable[[str], bool] = lambda _user: False,
        kept_out: Callable[[str], bool] = lambda _user: False,
        shut_out: Callable[[str], bool] = lambda _user: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._links = links
        self._keys = keys
        self._server = server
        self._policy = policy
        self._registry = registry
        self._mode = mode
        self._clock = clock
        self._random = random
        self._log = log
        self._decided = decided
        self._lease = lease
        self._own_curve = links.curve if shared else None
        self._withheld = withheld
        self._kept_out = kept_out
        self._shut_out = shut_out
        self._monotonic = monotonic
        self._logins = Rates(LOGINS, LOGINS_AT_ONCE, _ADDRESSES)
        self._workers = Workers("auth callout", MOST_AT_ONCE, log)
        self._queue: LoginQueue[Msg] = LoginQueue()
        self._more = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to answer; nobody but the daemon gets in before."""
        self._reading = asyncio.create_task(self._read(), name="auth callout queue")
        await self._links.auth.subscribe(core.SUBJECT, cb=self._asked)
        await self._links.auth.flush()

    async def close(self) -> None:
        """Stop deciding; what is undecided stays unanswered and so outside."""
        await end_tasks(self._reading)
        await self._workers.close()

    async def _asked(self, message: Msg) -> None:
        if self._own_curve is not None and _reply_to(message) != self._own_curve:
            return  # another server of the cluster asks its own daemon; nobody else can read it
        self._queue.join(message, self._monotonic())
        self._more.set()

    async def _read(self) -> None:
        while True:
            await self._more.wait()
            until = self._monotonic() + _SLICE
            while (now := self._monotonic()) <= until:
                message = self._queue.next(now)
                if message is None:
                    self._more.clear()
                    break
                try:
                    await self._take(message)
                except Exception as error:  # noqa: BLE001 - one that cannot be read must not keep all others outside
                    self._log.error("a callout request could not be read", exc_info=error)
            await asyncio.sleep(0)

    async def _take(self, message: Msg) -> None:
        now = int(self._clock())
        try:
            attempt = core.read_request(message.data, _reply_to(message), self._keys, self._server, now)
        except InvalidInput as error:
            self._log.warning("a callout request was not understood", reason=error.message)
            return
        known = self._registry.known(attempt.cid)
        if known is not None and known.rooms is not None and not attempt.claimed and attempt.login == LOGIN:
            attempt = core.recalled(attempt, known.user, known.rooms)
        if self._workers.full:
            await self._answer(message, attempt, self._refuse(attempt, LimitReached("too many connect at once")))
        else:
            self._workers.run(self._handle(message, attempt))

    async def _handle(self, message: Msg, attempt: core.Attempt) -> None:
        try:
            async with asyncio.timeout(_DECIDE_WITHIN):
                answer = await self._decide(attempt)
        except UnibusError as error:
            answer = self._refuse(attempt, error)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong inside, the outside hears a refusal
            self._log.error("a connection could not be decided", exc_info=error)
            answer = self._refuse(attempt, UnibusError())
        await self._answer(message, attempt, answer)

    async def _decide(self, attempt: core.Attempt) -> str:
        if self._mode is BusAuth.OFF:
            return self._let_in_unchecked(attempt)
        try:
            return await self._admit(attempt)
        except UnibusError as error:
            if self._mode is BusAuth.ENFORCE:
                raise
            self._log.warning(
                "enforce would refuse this connection",
                user=attempt.claimed,
                host=attempt.host,
                code=error.code,
                reason=error.message,
            )
            return self._let_in_unchecked(attempt)

    async def _admit(self, attempt: core.Attempt) -> str:
        """The approval of a proven member. A revocation that comes while the policy decides wins."""
        self._check_rate(attempt)
        user = core.prove(attempt)
        ACTOR.set(user)
        if self._shut_out(user):
            raise Forbidden("a message of this identity has stopped the bus: ask an admin")
        if self._kept_out(user):
            raise RateLimited("this identity has sent too much: it is let in again in some seconds")
        if self._registry.known(attempt.cid) is None and self._registry.held_by(user) >= MOST_OF_ONE:
            raise LimitReached(f"one user may have {MOST_OF_ONE} connections: close some")
        rooms = core.wished_rooms(attempt)
        connection = self._registry.asked(attempt.cid, user, self._clock())
        try:
            grants = await self._policy.admit(user, rooms)
        except BaseException:
            if not connection.alive:  # one that is up and now turned away is gone when the server has said so
                self._registry.gone(attempt.cid)
            raise
        if connection.revoked or self._withheld(user):
            raise NotAUser("this identity's rights changed while it connected: connect again")
        connection.rooms = frozenset((*grants.write, *grants.read))
        granted = permissions(grants) if self._mode is BusAuth.ENFORCE else EVERYTHING
        self._decided(user, attempt.host, None)
        return self._approve(attempt, granted)

    def _check_rate(self, attempt: core.Attempt) -> None:
        """Raise RateLimited when too many try from one address; it costs less than a signature to find out."""
        address = address_key(attempt.host)
        again = self._registry.known(attempt.cid) is not None  # the server asks about one that is in
        if address is not None and not again and self._logins.wait(address, self._monotonic()):
            raise RateLimited("too many connect from this address: try again in some seconds")

    def _let_in_unchecked(self, attempt: core.Attempt) -> str:
        self._registry.asked(attempt.cid, attempt.claimed, self._clock()).rooms = frozenset()
        return self._approve(attempt, EVERYTHING)

    def _approve(self, attempt: core.Attempt, granted: Permissions) -> str:
        now = int(self._clock())
        # Half as long again at most, each its own time, so that those who came together do not come back together.
        late = int.from_bytes(self._random(2)) % (self._lease // 2 + 1) if self._lease else 0
        until = now + self._lease + late if self._lease else None
        return core.approval(attempt, granted, self._keys, now, until)

    def _refuse(self, attempt: core.Attempt, error: UnibusError) -> str:
        self._log.info("a connection was refused", user=attempt.claimed, host=attempt.host, code=error.code)
        self._decided(attempt.claimed, attempt.host, error)
        return core.refusal(attempt, error.code, self._keys, int(self._clock()))

    async def _answer(self, message: Msg, attempt: core.Attempt, answer: str) -> None:
        sealed = core.seal(answer, attempt.reply_to, self._keys.curve, self._random(24))
        try:
            await message.respond(sealed)
        except nats.errors.Error as error:
            # The link is lost: the server's life ends for that, and with it the connection that waits.
            self._log.warning("a callout could not be answered", reason=str(error))


def _reply_to(message: Msg) -> str:
    return (message.headers or {}).get(core.XKEY_HEADER, "")
