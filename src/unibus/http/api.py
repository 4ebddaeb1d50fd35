"""The routes of the control plane, `/v1`: each authenticates, calls one service, answers. Decides nothing itself."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from aiohttp import web
from pydantic import ValidationError

from unibus.crypto.encoding import b64u, unb64u
from unibus.crypto.heads import Head
from unibus.errors import BootstrapRefused, InvalidInput
from unibus.http.auth import Authenticator
from unibus.http.body import read_body
from unibus.model.bodies import Strict
from unibus.model.names import check_room_id
from unibus.model.wire import (
    PAGE,
    AppendRequest,
    BusView,
    FoundRequest,
    HeadView,
    JoinRequest,
    JoinView,
    KeysPage,
    RecordsPage,
    RoomsPage,
    SealedKey,
)
from unibus.services.gate import Gate
from unibus.services.membership import Membership
from unibus.services.reading import LogPage, Reading

RECORD_BODY = 131_072
SEALED_BODY = 32 * 2**20  # sealed keys of 10,000 members and room to spare

Model = TypeVar("Model", bound=Strict)


def read_model(model: type[Model], body: bytes) -> Model:
    """The model in a JSON body. Raises InvalidInput, naming the first member that is amiss."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(f"the body is amiss at {where!r}: {first['msg'].lower()}") from error


def answer(model: Strict, status: int = 200) -> web.Response:
    """`model` as a JSON answer that no cache keeps."""
    return web.Response(
        status=status,
        body=model.model_dump_json().encode(),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def number(query: Mapping[str, str], name: str, default: int, top: int) -> int:
    """The parameter `name`, a whole number from 0 to `top`. Raises InvalidInput."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > top:
        raise InvalidInput(f"the parameter {name!r} is a number from 0 to {top}")
    return int(text)


def _page(request: web.Request) -> tuple[int, int]:
    return number(request.query, "after", 0, 2**31), max(1, number(request.query, "limit", PAGE, PAGE))


def _head(head: Head) -> HeadView:
    return HeadView(sequence=head.sequence, hash=head.hash)


def _records(page: LogPage) -> web.Response:
    return answer(RecordsPage(records=[raw.decode("ascii") for raw in page.records], head=_head(page.head)))


class Api:
    """The handlers, over the services they call.

    `authenticator` knows users, `invited` knows invites; `nats` tells where the data plane listens now; `clock` gives
    Unix time.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        invited: Authenticator,
        membership: Membership,
        reading: Reading,
        gate: Gate,
        nats: Callable[[], tuple[str | None, int]],
        clock: Callable[[], float],
    ) -> None:
        self._authenticator = authenticator
        self._invited = invited
        self._membership = membership
        self._reading = reading
        self._gate = gate
        self._nats = nats
        self._clock = clock

    def routes(self) -> list[web.RouteDef]:
        """All routes, for `Application.add_routes`."""
        return [
            web.get("/v1/bus", self.bus),
            web.post("/v1/bus", self.found),
            web.get("/v1/join", self.invitation),
            web.post("/v1/join", self.join),
            web.get("/v1/directory/records", self.directory_records),
            web.post("/v1/directory/records", self.append_directory),
            web.get("/v1/rooms", self.rooms),
            web.get("/v1/rooms/{room}/records", self.room_records),
            web.post("/v1/rooms/{room}/records", self.append_room),
            web.get("/v1/rooms/{room}/keys", self.room_keys),
        ]

    async def bus(self, _request: web.Request) -> web.Response:
        genesis = await self._reading.genesis()
        host, port = self._nats()
        return answer(
            BusView(
                bus=self._reading.bus_id(),
                genesis=genesis.decode("ascii") if genesis else None,
                nats_host=host,
                nats_port=port,
            )
        )

    async def found(self, request: web.Request) -> web.Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise BootstrapRefused("founding a bus takes the bootstrap token, as a bearer token")
        body = read_model(FoundRequest, await read_body(request, RECORD_BODY))
        return answer(_head(await self._membership.found(token, body.record.encode())), 201)

    async def invitation(self, request: web.Request) -> web.Response:
        caller = await self._invited.authenticate(request)
        invite, head = self._reading.invitation(caller.user, int(self._clock()))
        return answer(JoinView(head=_head(head), handle=invite.handle))

    async def join(self, request: web.Request) -> web.Response:
        caller = await self._invited.authenticate(request, RECORD_BODY)
        body = read_model(JoinRequest, caller.body)
        return answer(_head(await self._membership.join(caller.user, body.record.encode())), 201)

    async def directory_records(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request)
        return _records(await self._reading.directory(caller.user, *_page(request)))

    async def append_directory(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request, RECORD_BODY)
        body = read_model(AppendRequest, caller.body)
        if body.sealed:
            raise InvalidInput("a directory record takes no sealed keys")
        return answer(_head(await self._membership.append_directory(caller.user, body.record.encode())), 201)

    async def rooms(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request)
        limit = max(1, number(request.query, "limit", PAGE, PAGE))
        after = request.query.get("after", "")
        if after:
            check_room_id(after)
        found = await self._gate.rooms(caller.user, after, limit + 1)
        more = len(found) > limit
        return answer(RoomsPage(rooms=found[:limit], next=found[limit - 1] if more else None))

    async def room_records(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request)
        return _records(await self._reading.room(caller.user, request.match_info["room"], *_page(request)))

    async def append_room(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request, SEALED_BODY)
        room = check_room_id(request.match_info["room"])
        body = read_model(AppendRequest, caller.body)
        sealed = {user: unb64u(key) for user, key in body.sealed.items()}
        return answer(_head(await self._membership.append_room(caller.user, room, body.record.encode(), sealed)), 201)

    async def room_keys(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request)
        found = await self._reading.keys(caller.user, request.match_info["room"], *_page(request))
        return answer(KeysPage(keys=[SealedKey(sequence=key.position, sealed=b64u(key.value)) for key in found]))
