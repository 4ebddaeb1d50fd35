"""The control plane as the client calls it: signed HTTP requests, and problems turned back into errors.

Every call may be repeated, on any node: reads by nature, appends because a node answers a repeated record as the first
time, a removal because what is gone is gone. So a lost connection or a node that is not ready is tried again until the
deadline, signed anew each time. Two calls ask one node only: founding, because the token is that node's, and the audit
trail, because each node has its own. Never trusts what an answer says.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
from pydantic import ValidationError
from yarl import URL

from unibus.client.exchange import Exchange, NamedBody, read_whole
from unibus.client.failover import ANSWER_SECONDS, CONNECT_SECONDS, Trying, Verdict, may_go_on, verdict
from unibus.client.nodes import Nodes, parse_urls
from unibus.client.served import served_bus
from unibus.crypto.encoding import b64u, dump_json
from unibus.crypto.nkeys import SigningKey
from unibus.errors import AnswerTimeout, LogRolledBack, NotFound, UnibusError, Unreachable, Untrusted, WrongBus
from unibus.model.bodies import Strict
from unibus.model.wire import (
    AppendRequest,
    AuditPage,
    BusView,
    FoundRequest,
    HeadView,
    JoinRequest,
    JoinView,
    KeysPage,
    NodeName,
    RecordsPage,
    Replicas,
    RoomsPage,
)

DEADLINE = 30.0  # seconds for one call, retries included, unless told otherwise
Model = TypeVar("Model", bound=Strict)
T = TypeVar("T")

log = logging.getLogger("unibus.client")


class ControlApi:
    """Calls to the nodes of one bus as the holder of one key.

    `url` is one address, or several with commas between them. `bus` is set once the client knows which bus it talks to:
    of several nodes none is then asked that does not serve it. `tls` says which certificates are taken over https, None
    the system's.
    """

    def __init__(
        self,
        url: str,
        key: SigningKey,
        clock: Callable[[], float],
        deadline: float = DEADLINE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.nodes = Nodes(parse_urls(url))
        self.tls = tls
        self._deadline = deadline
        self._exchange = Exchange(key, clock, deadline, tls)
        self._serves: dict[URL, str] = {}
        self._audited: URL | None = None

    @property
    def bus(self) -> str | None:
        """The bus that requests are signed for; None before it is known."""
        return self._exchange.bus

    @bus.setter
    def bus(self, bus: str) -> None:
        self._exchange.bus = bus

    @property
    def url(self) -> URL:
        """The node that is asked now."""
        return self.nodes.current

    @property
    def several(self) -> bool:
        """Whether there is another node to go to."""
        return self.nodes.several

    async def open(self) -> None:
        """Make the HTTP session; `close` ends it."""
        await self._exchange.open()

    async def close(self) -> None:
        """End the session. Safe to call twice."""
        await self._exchange.close()

    async def bus_view(self) -> BusView:
        """Which bus is served; for anybody."""
        _, view = await self.locate()
        return view

    async def locate(self) -> tuple[URL, BusView]:
        """A node that serves, and what it says of its bus and of where its NATS plane is."""

        async def attempt(node: URL, limits: aiohttp.ClientTimeout | None) -> tuple[URL, BusView]:
            return node, await self._once(node, BusView, "GET", URL("/v1/bus"), limits=limits)

        node, view = await self._anywhere(attempt)
        if view.bus is not None:
            self._serves[node] = view.bus
        self.nodes.learn(view.nodes)
        return node, view

    async def found(self, token: str, record: bytes) -> HeadView:
        """Make the bus, with the bootstrap token of the first node that was given."""
        body = FoundRequest(record=record.decode("ascii")).model_dump_json().encode()
        headers = {"Authorization": f"Bearer {token}"}
        return await self.call(HeadView, "POST", URL("/v1/bus"), body, headers, only=self.nodes.given[0])

    async def records(self, log_name: str, after: int, known: int = 0) -> RecordsPage:
        """A page of a log's records after number `after`.

        `known` is how many records are known to be there. A node that shows fewer is behind, or lies: the others are
        asked until the deadline, and then it is LogRolledBack; at once, where there is but one.
        """

        def check(page: RecordsPage) -> None:
            if page.head.sequence < known:
                raise LogRolledBack(f"the server's {log_name} log ends at {page.head.sequence}, before {known}")

        return await self.call(RecordsPage, "GET", URL(_path(log_name, "records")) % {"after": str(after)}, check=check)

    async def append(self, log_name: str, record: bytes, sealed: Mapping[str, bytes]) -> HeadView:
        """Append a record with the sealed keys that it commits to."""
        body = AppendRequest(record=record.decode("ascii"), sealed={user: b64u(key) for user, key in sealed.items()})
        return await self.call(HeadView, "POST", URL(_path(log_name, "records")), body.model_dump_json().encode())

    async def keys(self, log_name: str, after: int) -> KeysPage:
        """Keys sealed to this identity in a room, after record number `after`."""
        return await self.call(KeysPage, "GET", URL(_path(log_name, "keys")) % {"after": str(after)})

    async def invitation(self) -> JoinView:
        """What the invite whose key this client has is for."""
        return await self.call(JoinView, "GET", URL("/v1/join"))

    async def join(self, record: bytes) -> HeadView:
        """Join by the invite whose key this client has."""
        body = JoinRequest(record=record.decode("ascii")).model_dump_json().encode()
        return await self.call(HeadView, "POST", URL("/v1/join"), body)

    async def audit(self, after: int, wait: int) -> AuditPage:
        """A page of one node's audit trail after entry `after`; waits up to `wait` seconds for the first."""
        self._audited = self._audited or self.nodes.current
        target = URL("/v1/audit") % {"after": str(after), "wait": str(wait)}
        return await self.call(AuditPage, "GET", target, only=self._audited)

    async def rooms(self, after: str) -> RoomsPage:
        """A page of the ids of this identity's rooms."""
        return await self.call(RoomsPage, "GET", URL("/v1/rooms") % ({"after": after} if after else {}))

    async def keep_on(self, replicas: int) -> None:
        """Have everything kept on so many nodes of the cluster, as an admin. Raises Forbidden, RuleBroken."""
        await self.call(Replicas, "POST", URL("/v1/cluster/replicas"), dump_json({"replicas": replicas}))

    async def give_up(self, node: str) -> None:
        """Have the cluster go on without a node that is gone for good, as an admin.

        Raises Forbidden, RuleBroken for one that is there, NotFound for one that nobody knows (any more).
        """
        await self.call(NodeName, "POST", URL("/v1/cluster/remove"), dump_json({"node": node}))

    async def remove(self, path: URL) -> None:
        """Delete what is at `path`. Raises NotFound, unless this may have deleted it in a try that got no answer."""
        unsure = False

        async def attempt(node: URL, limits: aiohttp.ClientTimeout | None) -> None:
            nonlocal unsure
            try:
                async with self._exchange.ask(node, "DELETE", path, patience=limits):
                    pass
            except NotFound:
                if not unsure:
                    raise
            except (Unreachable, AnswerTimeout):
                unsure = True
                raise

        await self._anywhere(attempt)

    async def call(
        self,
        model: type[Model],
        method: str,
        path: URL,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        check: Callable[[Model], None] = lambda _: None,
        only: URL | None = None,
    ) -> Model:
        """The `model` that a node answers with; asked again, and elsewhere, until the deadline.

        `check` raises what is wrong with an answer, which counts as its node's; `only` is the one node that is asked.
        """

        async def attempt(node: URL, limits: aiohttp.ClientTimeout | None) -> Model:
            answer = await self._once(node, model, method, path, body, headers or {}, limits=limits)
            check(answer)
            return answer

        return await self._anywhere(attempt, only)

    @asynccontextmanager
    async def exchange(
        self,
        method: str,
        path: URL,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        patience: aiohttp.ClientTimeout | None = None,
        named: NamedBody | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """One signed request to the node that serves now, tried once, and its answer as it comes; see `Exchange.ask`.

        After one that failed, another node is asked the next time.
        """
        node = self.nodes.current
        try:
            await self._meet(node)
            asked = self._exchange.ask(node, method, path, body, headers, patience=patience, named=named)
            async with asked as response:
                yield response
        except UnibusError as error:
            if verdict(error) is not Verdict.FINAL:
                self.nodes.leave(node)
            raise

    def may_go_on(self, error: UnibusError) -> bool:
        """Whether something long, such as an upload, goes on after `error` where it was cut."""
        return may_go_on(error, several=self.nodes.several)

    async def _anywhere(
        self, attempt: Callable[[URL, aiohttp.ClientTimeout | None], Awaitable[T]], only: URL | None = None
    ) -> T:
        """What `attempt` gives on the first node on which it succeeds."""
        nodes = self.nodes if only is None else Nodes([only])
        trying = Trying(nodes)
        try:
            async with asyncio.timeout(self._deadline) as deadline:
                while True:
                    self._exchange.opened()
                    node, limits = nodes.current, None
                    if nodes.several:
                        limits = aiohttp.ClientTimeout(
                            sock_connect=CONNECT_SECONDS * trying.patience, sock_read=ANSWER_SECONDS * trying.patience
                        )
                    try:
                        await self._meet(node)
                        return await attempt(node, limits)
                    except UnibusError as error:
                        pause = trying.failed(node, error)
                        if pause is None or pause > (deadline.when() or 0) - asyncio.get_running_loop().time():
                            raise (trying.told or error) from None
                        if nodes.several:
                            log.info("%s does not serve: %s (%s)", node, error.message, error.code)
                    await asyncio.sleep(pause)
        except TimeoutError:
            raise trying.told or Unreachable(f"{nodes.current} did not answer within {self._deadline:g} s") from None

    async def _meet(self, node: URL) -> None:
        """Return if `node` is known to serve this bus. One of several is asked, unsigned, before anything else is."""
        if self.bus is None or not self.nodes.several or self._serves.get(node) == self.bus:
            return
        limits = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
        try:
            view = await self._once(node, BusView, "GET", URL("/v1/bus"), limits=limits, signed=False)
            served: str | None = served_bus(view)
        except UnibusError as error:
            if verdict(error) is not Verdict.FINAL:
                raise
            served = None
        if served != self.bus:
            raise WrongBus(f"{node} does not serve the bus {self.bus[:12]}…: check the address")
        self._serves[node] = served

    async def _once(
        self,
        node: URL,
        model: type[Model],
        method: str,
        path: URL,
        body: bytes = b"",
        extra: Mapping[str, str] | None = None,
        *,
        limits: aiohttp.ClientTimeout | None,
        signed: bool = True,
    ) -> Model:
        headers = {**(extra or {}), "Content-Type": "application/json"} if body else extra
        async with self._exchange.ask(node, method, path, body, headers, patience=limits, signed=signed) as response:
            answer = await read_whole(response)
            if response.headers.get("Connection", "").lower() == "close":
                self.nodes.leave(node)  # it drains: what comes next goes elsewhere
        try:
            return model.model_validate_json(answer)
        except ValidationError as error:
            raise Untrusted(f"{path} answered with something that is not a {model.__name__}") from error


def _path(log_name: str, what: str) -> str:
    kind, _, room = log_name.partition("/")
    return f"/v1/rooms/{room}/{what}" if kind == "room" else f"/v1/directory/{what}"
