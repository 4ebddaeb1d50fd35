"""A control plane made for the tests: serves a `World` over real HTTP, as it is or as a liar would.

Checks no signatures and keeps no rules. What it answers is what a test tells it, so that the client has to find out.
"""

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tests.client.world import World
from unibus.crypto.encoding import b64u
from unibus.crypto.heads import digest
from unibus.model.records import DIRECTORY, room_log
from unibus.model.wire import BusView, KeysPage, RoomsPage, SealedKey

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
_KEY_ID = re.compile(r'keyid="(U[A-Z2-7]{55})"')


class Server:
    """What the server shows. `world` is its truth; `answers` replaces whole answers by path; `seen` lists requests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.url = ""
        self.nats_port = 1
        self.nats_tls = False
        self.page = 500
        self.answers: dict[str, Answer] = {}
        self.rooms: list[str] | None = None
        self.seen: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The answer to any request."""
        self.seen.append(f"{request.method} {request.path}")
        if request.path in self.answers:
            return await self.answers[request.path](request)
        match request.path.strip("/").split("/"):
            case ["v1", "bus"]:
                return self.bus()
            case ["v1", "rooms"]:
                rooms = sorted(self.world.rooms) if self.rooms is None else self.rooms
                return shown(RoomsPage(rooms=rooms, next=None))
            case ["v1", "directory", "records"]:
                return self.records(DIRECTORY, request)
            case ["v1", "rooms", room, "records"]:
                return self.records(room_log(room), request)
            case ["v1", "rooms", room, "keys"]:
                return self.keys(room_log(room), request)
            case _:
                raise web.HTTPNotFound

    def bus(self) -> web.Response:
        genesis = self.world.genesis.decode()
        return shown(
            BusView(
                bus=self.world.bus,
                genesis=genesis,
                nats_host=None,
                nats_port=self.nats_port,
                nats_tls=self.nats_tls,
                nats_ws_port=None,
            )
        )

    def records(self, log: str, request: web.Request) -> web.Response:
        records, after = self.world.logs[log], int(request.query["after"])
        texts = [raw.decode() for raw in records[after : after + self.page]]
        hashed = digest(records[-1]) if records else bytes(32)
        # Not by way of the model, which would not let every lie pass.
        return web.json_response({"records": texts, "head": {"sequence": len(records), "hash": b64u(hashed)}})

    def keys(self, log: str, request: web.Request) -> web.Response:
        asker, after = _KEY_ID.findall(request.headers["Signature-Input"])[0], int(request.query["after"])
        sealed = [item for item in self.world.sealed[log, asker] if item[0] > after][: self.page]
        return shown(KeysPage(keys=[SealedKey(sequence=number, sealed=b64u(key)) for number, key in sealed]))


def shown(model: BusView | RoomsPage | KeysPage) -> web.Response:
    """`model` as a JSON answer."""
    return web.json_response(text=model.model_dump_json())


def always(status: int, body: bytes = b"", **headers: str) -> Answer:
    """The same answer to whatever is asked."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers=headers)

    return answer


@asynccontextmanager
async def serving(world: World, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve `world` on a free port, over TLS with `tls`."""
    server = Server(world)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        server.url = f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
