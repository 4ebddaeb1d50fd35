"""The operations of the control plane, `/v1`: each authenticates, calls one service, answers. Decides nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from aiohttp import web
from pydantic import ValidationError
from yarl import URL

from unibus.crypto.encoding import b64u, unb64u
from unibus.crypto.heads import Head
from unibus.errors import (
    BootstrapRefused,
    Forbidden,
    HeadConflict,
    InvalidInput,
    InviteExpired,
    InviteUnknown,
    InviteUsed,
    InviteWithdrawn,
    ListTooLong,
    MalformedRecord,
    NameInvalid,
    NotAUser,
    NotFound,
    RuleBroken,
    StorageUnavailable,
    WrongBus,
)
from unibus.http.auth import Authenticator
from unibus.http.body import read_body
from unibus.http.limits import Limits
from unibus.http.operations import Answer, Asker, Operation
from unibus.http.parameters import AFTER, AFTER_ROOM, LIMIT, MAX_SEQUENCE, ROOM
from unibus.http.whole import Whole
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

_APPENDING = (MalformedRecord, NameInvalid, WrongBus, Forbidden, NotAUser, HeadConflict, RuleBroken, StorageUnavailable)
_INVITE = (InviteUsed, InviteExpired, InviteWithdrawn)

Model = TypeVar("Model", bound=Strict)


def read_model(model: type[Model], body: bytes) -> Model:
    """The model in a JSON body. Raises InvalidInput or ListTooLong, naming the first member that is amiss."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        kind = ListTooLong if first["type"] == "too_long" else InvalidInput
        raise kind(f"the body is amiss at {where!r}: {first['msg'].lower()}") from error


def answer(model: Strict, status: int = 200) -> web.Response:
    """`model` as a JSON answer that no cache keeps."""
    return Whole(model.model_dump_json().encode(), status)


def number(query: Mapping[str, str], name: str, default: int | None, top: int) -> int:
    """The parameter `name`, a whole number from 0 to `top`; without a `default` it is needed. Raises InvalidInput."""
    text = query.get(name)
    if text is None and default is not None:
        return default
    found = int(text) if text and len(text) <= 16 and text.isascii() and text.isdigit() else None
    if found is None or found > top:
        kind = ListTooLong if found is not None and name == "limit" else InvalidInput
        raise kind(f"the parameter {name!r} is a number from 0 to {top}")
    return found


def _page(request: web.Request) -> tuple[int, int]:
    return _page_of(request.rel_url.raw_query_string)


@lru_cache(maxsize=256)
def _page_of(query: str) -> tuple[int, int]:
    # Most who ask have read as far as most others: the same few queries, which take longer to read than to answer.
    found = URL.build(path="/", query_string=query, encoded=True).query
    return number(found, "after", 0, MAX_SEQUENCE), max(1, number(found, "limit", PAGE, PAGE))


def _head(head: Head) -> HeadView:
    return HeadView(sequence=head.sequence, hash=head.hash)


def _records(page: LogPage) -> web.Response:
    # The JSON of a RecordsPage, by hand: a record is letters of base64url and dots, and there may be megabytes of it.
    records = b'"%b"' % b'","'.join(page.records) if page.records else b""
    return Whole(b'{"records":[%b],"head":%b}' % (records, _head_json(page.head.sequence, page.head.digest)))


@lru_cache(maxsize=1024)
def _head_json(sequence: int, digest: bytes) -> bytes:
    # Most who ask find nothing new: the same heads again and again. Python hashes a Head slower than its two parts.
    return b'{"sequence":%d,"hash":"%b"}' % (sequence, b64u(digest).encode())


@dataclass(frozen=True, slots=True)
class NatsPlace:
    """Where the data plane listens: `host` None is the host that the client has asked, `ws_port` is for WebSockets."""

    host: str | None
    port: int
    tls: bool = False
    ws_port: int | None = None


class Api:
    """The handlers, over the services they call.

    `authenticator` knows users, `invited` knows invites; `nats` tells where the data plane listens now; `clock` gives
    Unix time; `pace_append` raises RateLimited when a user appends too often; `nodes` gives the URLs of all nodes.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        invited: Authenticator,
        membership: Membership,
        reading: Reading,
        gate: Gate,
        nats: Callable[[], NatsPlace],
        clock: Callable[[], float],
        limits: Limits | None = None,
        *,
        pace_append: Callable[[str], None] = lambda _: None,
        nodes: Callable[[], list[str]] = list,
    ) -> None:
        self._nodes = nodes
        self._pace_append = pace_append
        self._limits = limits or Limits()
        self._authenticator = authenticator
        self._invited = invited
        self._membership = membership
        self._reading = reading
        self._gate = gate
        self._nats = nats
        self._clock = clock

    def operations(self) -> list[Operation]:
        """All operations, each beside what it is described by."""
        head = Answer(201, "the log's new head: the record stands", HeadView)
        records = Answer(200, "records, and the head that the log has now", RecordsPage)
        return [
            Operation(
                *("GET", "/v1/bus", self.bus, Asker.ANYBODY),
                [Answer(200, "the bus", BusView)],
                problems=(StorageUnavailable,),
                tagged=True,
                head=True,
            ),
            Operation(
                *("POST", "/v1/bus", self.found, Asker.FOUNDER),
                [head],
                takes=FoundRequest,
                problems=(BootstrapRefused, *_APPENDING),
            ),
            Operation(
                *("GET", "/v1/join", self.invitation, Asker.INVITED),
                [Answer(200, "the invite can be used", JoinView)],
                problems=_INVITE,
                tagged=True,
            ),
            Operation(
                *("POST", "/v1/join", self.join, Asker.INVITED),
                [head],
                takes=JoinRequest,
                problems=(*_APPENDING, *_INVITE),
            ),
            Operation(
                *("GET", "/v1/directory/records", self.directory_records, Asker.USER),
                [records],
                parameters=(AFTER, LIMIT),
                tagged=True,
            ),
            Operation(
                *("POST", "/v1/directory/records", self.append_directory, Asker.USER),
                [head],
                takes=AppendRequest,
                problems=(*_APPENDING, InviteUnknown, *_INVITE),
            ),
            Operation(
                *("GET", "/v1/rooms", self.rooms, Asker.USER),
                [Answer(200, "ids of rooms", RoomsPage)],
                parameters=(AFTER_ROOM, LIMIT),
                tagged=True,
            ),
            Operation(
                *("GET", "/v1/rooms/{room}/records", self.room_records, Asker.USER),
                [records],
                parameters=(ROOM, AFTER, LIMIT),
                problems=(NotFound,),
                tagged=True,
            ),
            Operation(
                *("POST", "/v1/rooms/{room}/records", self.append_room, Asker.USER),
                [head],
                takes=AppendRequest,
                parameters=(ROOM,),
                problems=(*_APPENDING, NotFound),
            ),
            Operation(
                *("GET", "/v1/rooms/{room}/keys", self.room_keys, Asker.USER),
                [Answer(200, "sealed keys", KeysPage)],
                parameters=(ROOM, AFTER, LIMIT),
                problems=(NotFound,),
                tagged=True,
            ),
        ]

    async def bus(self, _request: web.Request) -> web.Response:
        """Which bus this node serves, and where its NATS plane is.

        For anybody: a client compares the bus's id with the one that it was told before it believes anything.
        """
        genesis = await self._reading.genesis()
        nats = self._nats()
        return answer(
            BusView(
                bus=self._reading.bus_id(),
                genesis=genesis.decode("ascii") if genesis else None,
                nats_host=nats.host,
                nats_port=nats.port,
                nats_tls=nats.tls,
                nats_ws_port=nats.ws_port,
                nodes=self._nodes(),
            )
        )

    async def found(self, request: web.Request) -> web.Response:
        """Make the bus, with its first record and the one-time token."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise BootstrapRefused("founding a bus takes the bootstrap token, as a bearer token")
        body = read_model(FoundRequest, await read_body(request, self._limits.record_body, self._limits.body_seconds))
        return answer(_head(await self._membership.found(token, body.record.encode())), 201)

    async def invitation(self, request: web.Request) -> web.Response:
        """What an invite is for, asked by its holder."""
        caller = await self._invited.authenticate(request)
        invite, head = self._reading.invitation(caller.user, int(self._clock()))
        return answer(JoinView(head=_head(head), handle=invite.handle))

    async def join(self, request: web.Request) -> web.Response:
        """Join by an invite."""
        caller = await self._invited.authenticate(request, self._limits.record_body)
        body = read_model(JoinRequest, caller.body)
        return answer(_head(await self._membership.join(caller.user, body.record.encode())), 201)

    async def directory_records(self, request: web.Request) -> web.Response:
        """A page of the directory's log."""
        caller = await self._authenticator.authenticate(request)
        return _records(await self._reading.directory(caller.user, *_page(request)))

    async def append_directory(self, request: web.Request) -> web.Response:
        """Append a record to the directory: admit, revoke, rename, invite.

        A record that is there already is answered as the first time, so this may be repeated.
        """
        caller = await self._authenticator.authenticate(request, self._limits.record_body)
        self._pace_append(caller.user)
        body = read_model(AppendRequest, caller.body)
        if body.sealed:
            raise InvalidInput("a directory record takes no sealed keys")
        return answer(_head(await self._membership.append_directory(caller.user, body.record.encode())), 201)

    async def rooms(self, request: web.Request) -> web.Response:
        """A page of the ids of the rooms that the asker is in."""
        caller = await self._authenticator.authenticate(request)
        limit = max(1, number(request.query, "limit", PAGE, PAGE))
        after = request.query.get("after", "")
        if after:
            check_room_id(after)
        found = await self._gate.rooms(caller.user, after, limit + 1)
        more = len(found) > limit
        return answer(RoomsPage(rooms=found[:limit], next=found[limit - 1] if more else None))

    async def room_records(self, request: web.Request) -> web.Response:
        """A page of a room's log, for who is in the room."""
        caller = await self._authenticator.authenticate(request)
        return _records(await self._reading.room(caller.user, request.match_info["room"], *_page(request)))

    async def append_room(self, request: web.Request) -> web.Response:
        """Append a record to a room's log, with the sealed keys that it commits to; the first one makes the room.

        A record that is there already is answered as the first time, so this may be repeated.
        """
        caller = await self._authenticator.authenticate(request, self._limits.sealed_body)
        self._pace_append(caller.user)
        room = check_room_id(request.match_info["room"])
        body = read_model(AppendRequest, caller.body)
        sealed = {user: unb64u(key) for user, key in body.sealed.items()}
        return answer(_head(await self._membership.append_room(caller.user, room, body.record.encode(), sealed)), 201)

    async def room_keys(self, request: web.Request) -> web.Response:
        """A page of the room keys that are sealed to the asker."""
        caller = await self._authenticator.authenticate(request)
        found = await self._reading.keys(caller.user, request.match_info["room"], *_page(request))
        return answer(KeysPage(keys=[SealedKey(sequence=key.position, sealed=b64u(key.value)) for key in found]))
