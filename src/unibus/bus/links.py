"""The daemon's own connections to its nats-server: one for each account, and none of them reconnects.

A link that breaks ends the server's life (`lost`), because a server that the daemon cannot command could keep a
revoked member. Must never wait without a bound: every request has a time-out.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import nats.errors
from nats.aio.client import Client
from structlog.typing import FilteringBoundLogger

from unibus import natspy
from unibus.bus.keys import BusKeys, login_seed
from unibus.crypto.encoding import dump_json
from unibus.crypto.nkeys import SigningKey
from unibus.errors import BusUnavailable
from unibus.tasks import end_tasks

JETSTREAM_TIMEOUT = 5.0
SERVER_TIMEOUT = 2.0
"""Seconds; what the server itself is asked needs no disk, and a revocation waits for it."""
_PING_EVERY = 5
_NOT_FOUND = 404
_AGAIN = 0.01
_CLOSE_WITHIN = 2.0
_KICKED_AT_ONCE = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Links:
    """Connected links to the accounts CORE, AUTH and SYS. `lost` is done, with the reason, when one breaks."""

    core: Client
    auth: Client
    system: Client
    lost: asyncio.Future[str]
    _closed: tuple[asyncio.Event, ...]

    @classmethod
    async def connect(
        cls,
        address: str,
        keys: BusKeys,
        log: FilteringBoundLogger,
        tls: ssl.SSLContext | None = None,
        advice: str = "",
    ) -> "Links":
        """Connect all three, over TLS with `tls`. Raises BusUnavailable, which ends with `advice`."""
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        made: list[tuple[Client, asyncio.Event]] = []
        try:
            for key in (keys.core, keys.auth, keys.system):
                made.append(await _connect(address, key, lost, log, tls))
        except (OSError, TimeoutError, nats.errors.Error) as error:
            for client, _ in made:
                await client.close()
            raise BusUnavailable(f"nats-server does not let its daemon in ({error}){advice}") from error
        (core, auth, system), closed = zip(*made, strict=True)
        return cls(core, auth, system, lost, closed)

    async def close(self) -> None:
        """Close all three, also when the server is already gone."""
        if not self.lost.done():
            self.lost.cancel()
        # One that was just breaking is being closed by nats-py itself, which close() does not wait for. And on one that
        # breaks at this moment close() can wait for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN):
                for client in (self.core, self.auth, self.system):
                    await client.close()
                for closed in self._closed:
                    await closed.wait()

    async def jetstream(
        self, call: str, body: object = None, within: float = JETSTREAM_TIMEOUT
    ) -> dict[str, object] | None:
        """JetStream's answer to the API `call`, None if what it is about does not exist.

        Raises BusUnavailable, also when there is no answer within that many seconds.
        """
        answer = await _ask(self.core, f"$JS.API.{call}", body, within)
        error = answer.get("error")
        if not isinstance(error, dict):
            return answer
        if error.get("code") == _NOT_FOUND:
            return None
        what = call.partition(".ROOMS")[0]
        raise BusUnavailable(f"JetStream refused {what}: {error.get('description', 'no reason given')}")

    async def whoami(self, client: Client) -> dict[str, object]:
        """What the server knows of this link, and where. Raises BusUnavailable."""
        return await _ask(client, "$SYS.REQ.USER.INFO", None, SERVER_TIMEOUT)

    @property
    def curve(self) -> str:
        """The curve key (`X…`) of the server that these links go to."""
        return str(self.auth._server_info.get("xkey", ""))  # noqa: SLF001 - nats-py shows the server's INFO nowhere else

    async def unless_lost(self, asked: Awaitable[T]) -> T:
        """What is `asked` over a link; TimeoutError at once when one breaks, which nats-py would wait out."""
        task = asyncio.ensure_future(asked)
        racing: list[asyncio.Future[T] | asyncio.Future[str]] = [task, self.lost]
        try:
            await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise TimeoutError
            return task.result()
        finally:
            await end_tasks(task)

    async def server(self, target: str, body: object = None) -> dict[str, object]:
        """The server's answer to the system request `target`, such as `<id>.VARZ`. Raises BusUnavailable."""
        return await _ask(self.system, f"$SYS.REQ.SERVER.{target}", body, SERVER_TIMEOUT)

    async def kick(self, server: str, cids: Sequence[int]) -> None:
        """End these connections at the server with the id `server`; it closes them after it has answered.

        That one is gone already is an error of the server's answer, and as good. Raises BusUnavailable.
        """
        for start in range(0, len(cids), _KICKED_AT_ONCE):
            kicks = (self.server(f"{server}.KICK", {"cid": cid}) for cid in cids[start : start + _KICKED_AT_ONCE])
            await asyncio.gather(*kicks)


async def dial_core(address: str, keys: BusKeys, log: FilteringBoundLogger, tls: ssl.SSLContext | None) -> Client:
    """One more connection to CORE, which the caller closes and which does not reconnect. Raises BusUnavailable."""
    try:
        client, _ = await _connect(address, keys.core, asyncio.get_running_loop().create_future(), log, tls)
    except (OSError, TimeoutError, nats.errors.Error) as error:
        raise BusUnavailable(f"nats-server does not let its daemon in: {error}") from error
    return client


async def _connect(
    address: str, key: SigningKey, lost: asyncio.Future[str], log: FilteringBoundLogger, tls: ssl.SSLContext | None
) -> tuple[Client, asyncio.Event]:
    """The client, and an event for when nats-py is through with closing it."""
    closed = asyncio.Event()

    async def broken() -> None:
        if not lost.done():
            lost.set_result("the daemon's connection to nats-server broke")
        closed.set()

    async def complain(error: Exception) -> None:
        # Also what a handler of ours raised arrives here.
        log.warning("the daemon's connection to nats-server reports", error=repr(error))

    client = natspy.Client()
    try:
        await client.connect(
            address,
            nkeys_seed_str=login_seed(key),
            allow_reconnect=False,
            max_reconnect_attempts=1,  # without this the first connect tries for two minutes
            connect_timeout=5,
            ping_interval=_PING_EVERY,
            closed_cb=broken,
            error_cb=complain,
            tls=tls,
            tls_handshake_first=tls is not None,
        )
    except BaseException:
        # nats-py leaves the socket of a failed connect open, but waits without end for one whose handshake has failed.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN):
                await client.close()
        raise
    return client, closed


async def _ask(client: Client, subject: str, body: object, within: float) -> dict[str, object]:
    try:
        async with asyncio.timeout(within):
            answer = json.loads(await _reply(client, subject, b"" if body is None else dump_json(body), within))
    except (TimeoutError, OSError, ValueError, nats.errors.Error) as error:
        raise BusUnavailable("nats-server does not answer its daemon") from error
    if not isinstance(answer, dict):
        raise BusUnavailable("nats-server's answer is not understood")
    return answer


async def _reply(client: Client, subject: str, body: bytes, within: float) -> bytes:
    """The server's answer. While it takes in a changed configuration there is nobody to answer; what was asked then
    was not done, and is asked again.
    """
    while True:
        with contextlib.suppress(nats.errors.NoRespondersError):
            return (await client.request(subject, body, timeout=within)).data
        await asyncio.sleep(_AGAIN)
