"""The routes by which a bus is moved in from another node: one for each step, for who holds the bootstrap token.

What is sent is written as it comes; every byte is judged by the service before it counts. Decides nothing itself.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from unibus.errors import (
    BootstrapRefused,
    BusUnavailable,
    DigestMismatch,
    NotFound,
    RequestTimeout,
    RuleBroken,
    StorageUnavailable,
    UploadConflict,
)
from unibus.http.api import answer, number
from unibus.http.body import ahead, read_blocks
from unibus.http.operations import Answer, Asker, Operation
from unibus.http.parameters import BLOB, OFFSET, ROOM
from unibus.model.blobs import MAX_PART, MAX_SIZE
from unibus.model.moving import MoveView
from unibus.model.wire import UploadView
from unibus.services.moving import Moving
from unibus.store.blob_port import Held, Upload

STALL_SECONDS = 60.0
"""How long the next block of a body may be on its way."""


def _token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise BootstrapRefused("moving a bus in takes the bootstrap token, as a bearer token")
    return token


async def _steadily(blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same blocks. Raises RequestTimeout for one that does not come: whoever vanished must not be waited for."""
    async with aclosing(blocks):
        try:
            while True:
                async with asyncio.timeout(STALL_SECONDS):
                    block = await anext(blocks, None)
                if block is None:
                    return
                yield block
        except TimeoutError as error:
            raise RequestTimeout(f"nothing came for {STALL_SECONDS:g} s; begin again, what is here is kept") from error


def _upload(found: Upload | Held) -> web.Response:
    stored = isinstance(found, Held)
    offset = found.size if isinstance(found, Held) else found.received
    return answer(UploadView(offset=offset, size=found.size, stored=stored))


class MovingApi:
    """The handlers, over the service."""

    def __init__(self, moving: Moving) -> None:
        self._moving = moving

    def operations(self) -> list[Operation]:
        """All operations, each beside what it is described by."""
        view, offset = Answer(200, "how far the move is", MoveView), Answer(200, "how much of it is here", UploadView)
        refusals = (BootstrapRefused, RuleBroken, StorageUnavailable, BusUnavailable)
        blob, octets = "/v1/move/rooms/{room}/blobs/{blob}", "application/octet-stream"
        blobs = (*refusals, NotFound, UploadConflict)
        return [
            Operation(*("GET", "/v1/move", self.move, Asker.FOUNDER), [view], problems=refusals),
            Operation(
                *("PUT", "/v1/move/manifest", self.move_manifest, Asker.FOUNDER),
                [view],
                takes=octets,
                problems=refusals,
                moves_blobs=True,
            ),
            Operation(
                *("PUT", "/v1/move/records", self.move_records, Asker.FOUNDER),
                [view],
                takes=octets,
                problems=refusals,
                moves_blobs=True,
            ),
            Operation(
                *("GET", blob, self.moved_blob, Asker.FOUNDER), [offset], parameters=(ROOM, BLOB), problems=blobs
            ),
            Operation(
                *("PUT", blob, self.move_blob, Asker.FOUNDER),
                [offset],
                takes=octets,
                parameters=(ROOM, BLOB, OFFSET),
                problems=(*blobs, DigestMismatch),
                moves_blobs=True,
            ),
            Operation(
                *("PUT", "/v1/move/messages", self.move_messages, Asker.FOUNDER),
                [view],
                takes=octets,
                problems=refusals,
                moves_blobs=True,
            ),
            Operation(
                *("POST", "/v1/move", self.finish_move, Asker.FOUNDER), [view], problems=refusals, moves_blobs=True
            ),
        ]

    async def move(self, request: web.Request) -> web.Response:
        """How far the move of a bus into this cluster is."""
        return answer(await self._moving.look(_token(request)))

    async def move_manifest(self, request: web.Request) -> web.Response:
        """Send what names all parts of the bus to be moved. Begins again, and keeps what is here."""
        token = self._checked(request)
        return answer(await self._moving.take_manifest(token, ahead(_steadily(read_blocks(request, MAX_SIZE)))))

    async def move_records(self, request: web.Request) -> web.Response:
        """Send the copy of the records; once they are verified no node serves until the move is through."""
        token = self._checked(request)
        return answer(await self._moving.take_records(token, ahead(_steadily(read_blocks(request, MAX_SIZE)))))

    async def moved_blob(self, request: web.Request) -> web.Response:
        """How much of a blob is here."""
        return _upload(await self._moving.upload(_token(request), *_place(request)))

    async def move_blob(self, request: web.Request) -> web.Response:
        """Send the part of a blob that begins at `offset`, at most 8 MiB. The last one makes it a blob."""
        token = self._checked(request)
        offset = number(request.query, "offset", None, 2**53)
        blocks = ahead(read_blocks(request, MAX_PART))
        return _upload(await self._moving.receive(token, *_place(request), offset, blocks))

    async def move_messages(self, request: web.Request) -> web.Response:
        """Send the snapshot of the messages."""
        token = self._checked(request)
        return answer(await self._moving.take_messages(token, ahead(_steadily(read_blocks(request, MAX_SIZE)))))

    async def finish_move(self, request: web.Request) -> web.Response:
        """Copy the records, compare all with what was sent, and serve the bus."""
        return answer(await self._moving.finish(_token(request)))

    def _checked(self, request: web.Request) -> str:
        token = _token(request)
        self._moving.check(token)  # before a byte of the body is read
        return token


def _place(request: web.Request) -> tuple[str, str]:
    return request.match_info["room"], request.match_info["blob"]
