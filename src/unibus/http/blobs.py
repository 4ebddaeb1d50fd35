"""The operations on blobs, `/v1/rooms/{room}/blobs`: uploads in signed parts, downloads with ranges, lists, deletion.

Everything that an upload depends on is in the address or in the body, which the signature covers; Range and the
conditions of a download are not covered and need not be, because its reader checks every byte. Decides nothing
itself.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import hdrs, web

from unibus.crypto.encoding import b64u, unb64u
from unibus.errors import (
    DigestMismatch,
    Forbidden,
    HeadConflict,
    NotFound,
    QuotaExceeded,
    StorageUnavailable,
    UploadConflict,
)
from unibus.http.api import answer, number, read_model
from unibus.http.auth import Authenticator
from unibus.http.operations import Answer, Asker, Operation
from unibus.http.parameters import AFTER_BLOB, BLOB, IF_NONE_MATCH, IF_RANGE, LIMIT, OFFSET, RANGE, ROOM, THROUGH
from unibus.http.problems import plain_response
from unibus.http.ranges import NotModified, Slice, Unsatisfiable, choose
from unibus.http.sending import send_block
from unibus.model.blobs import MAX_MANIFEST, MAX_PART, check_blob_id
from unibus.model.wire import PAGE, BlobBegin, BlobComplete, BlobsPage, BlobView, UploadView
from unibus.services.blobs import Blobs
from unibus.store.blob_port import Held, Upload

_BODY = 2 * MAX_MANIFEST
_GONE = Answer(204, "it is gone")


def _upload_view(found: Upload | Held) -> UploadView:
    stored = isinstance(found, Held)
    return UploadView(offset=found.size if isinstance(found, Held) else found.received, size=found.size, stored=stored)


def _blob_view(held: Held) -> BlobView:
    return BlobView(
        id=held.place.blob,
        size=held.size,
        uploader=held.place.owner,
        stored_at=held.stored_at,
        manifest=b64u(held.note),
    )


class BlobApi:
    """The handlers, over the service."""

    def __init__(self, authenticator: Authenticator, blobs: Blobs) -> None:
        self._authenticator = authenticator
        self._blobs = blobs

    def operations(self) -> list[Operation]:
        """All operations, each beside what it is described by."""
        blob, upload = "/v1/rooms/{room}/blobs/{blob}", "/v1/rooms/{room}/blobs/{blob}/upload"
        place = (ROOM, BLOB)
        gone, storing = (NotFound,), (NotFound, Forbidden, StorageUnavailable)
        view, offset = Answer(200, "the blob", BlobView), Answer(200, "how far the upload is", UploadView)
        octets = "application/octet-stream"
        ranged = {"Content-Range": "which bytes these are"}
        return [
            Operation(
                *("GET", "/v1/rooms/{room}/blobs", self.page, Asker.USER),
                [Answer(200, "blobs", BlobsPage)],
                parameters=(ROOM, AFTER_BLOB, LIMIT),
                problems=gone,
                tagged=True,
            ),
            Operation(
                *("GET", blob, self.read, Asker.USER),
                [
                    Answer(200, "all of it", octets, {"ETag": "the blob's id", "Accept-Ranges": "`bytes`"}),
                    Answer(206, "the bytes that were asked for", octets, ranged),
                    Answer(304, "the asker has it"),
                    Answer(416, "the blob is shorter than that", None, ranged),
                ],
                parameters=(*place, RANGE, IF_RANGE, IF_NONE_MATCH),
                problems=gone,
                head=True,
                moves_blobs=True,
            ),
            Operation(*("DELETE", blob, self.delete, Asker.USER), [_GONE], parameters=place, problems=storing),
            Operation(
                *("GET", f"{blob}/info", self.info, Asker.USER), [view], parameters=place, problems=gone, tagged=True
            ),
            Operation(*("GET", upload, self.upload, Asker.USER), [offset], parameters=place, problems=storing),
            Operation(
                *("PUT", upload, self.begin, Asker.USER),
                [offset],
                takes=BlobBegin,
                parameters=place,
                problems=(*storing, QuotaExceeded, UploadConflict),
            ),
            Operation(
                *("PATCH", upload, self.receive, Asker.USER),
                [offset],
                takes=octets,
                parameters=(*place, OFFSET, THROUGH),
                problems=(*storing, QuotaExceeded, UploadConflict, DigestMismatch),
                moves_blobs=True,
            ),
            Operation(
                *("POST", upload, self.complete, Asker.USER),
                [Answer(201, "the blob is stored", BlobView)],
                takes=BlobComplete,
                parameters=place,
                problems=(*storing, HeadConflict, UploadConflict, DigestMismatch),
                moves_blobs=True,
            ),
            Operation(*("DELETE", upload, self.abandon, Asker.USER), [_GONE], parameters=place, problems=storing),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of the blobs of a room, for who is in the room."""
        caller = await self._authenticator.authenticate(request)
        limit = max(1, number(request.query, "limit", PAGE, PAGE))
        after = request.query.get("after", "")
        if after:
            check_blob_id(after)
        found = await self._blobs.page(caller.user, request.match_info["room"], after, limit + 1)
        more = len(found) > limit
        views = [_blob_view(held) for held in found[:limit]]
        return answer(BlobsPage(blobs=views, next=views[-1].id if more else None))

    async def info(self, request: web.Request) -> web.Response:
        """What the node knows of a blob, its sealed manifest among it."""
        caller = await self._authenticator.authenticate(request)
        return answer(_blob_view(await self._blobs.find(caller.user, *_place(request))))

    async def upload(self, request: web.Request) -> web.Response:
        """How far the asker's upload is."""
        caller = await self._authenticator.authenticate(request)
        return answer(_upload_view(await self._blobs.upload(caller.user, *_place(request))))

    async def begin(self, request: web.Request) -> web.Response:
        """Begin an upload, or find it again."""
        caller = await self._authenticator.authenticate(request, _BODY)
        body = read_model(BlobBegin, caller.body)
        return answer(_upload_view(await self._blobs.begin(caller.user, *_place(request), body.size)))

    async def receive(self, request: web.Request) -> web.Response:
        """Send the part of an upload that begins at `offset`, at most 8 MiB."""
        through = request.query.get("through")
        user, blocks = await self._authenticator.authenticate_stream(request, MAX_PART, named=through is not None)
        offset = number(request.query, "offset", None, 2**53)
        return answer(_upload_view(await self._blobs.receive(user, *_place(request), offset, blocks, through)))

    async def complete(self, request: web.Request) -> web.Response:
        """End an upload: check its digest and store it, with its sealed manifest."""
        caller = await self._authenticator.authenticate(request, _BODY)
        body = read_model(BlobComplete, caller.body)
        held = await self._blobs.complete(caller.user, *_place(request), unb64u(body.manifest), body.id)
        return answer(_blob_view(held), 201)

    async def abandon(self, request: web.Request) -> web.Response:
        """Give up an upload."""
        caller = await self._authenticator.authenticate(request)
        await self._blobs.abandon(caller.user, *_place(request))
        return web.Response(status=204)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a blob, for who stored it and for owners of the room."""
        caller = await self._authenticator.authenticate(request)
        await self._blobs.delete(caller.user, *_place(request))
        return web.Response(status=204)

    async def read(self, request: web.Request) -> web.StreamResponse:
        """The sealed bytes of a blob, whole or in part."""
        caller = await self._authenticator.authenticate(request)
        held = await self._blobs.find(caller.user, *_place(request))
        etag = f'"{held.place.blob}"'
        # What is kept here must be asked about again each time: who may fetch it changes.
        headers = {hdrs.ETAG: etag, hdrs.ACCEPT_RANGES: "bytes", hdrs.CACHE_CONTROL: "private, no-cache"}
        chosen = choose(
            held.size,
            etag,
            wanted=request.headers.get(hdrs.RANGE),
            if_none_match=request.headers.get(hdrs.IF_NONE_MATCH),
            if_range=request.headers.get(hdrs.IF_RANGE),
        )
        match chosen:
            case NotModified():
                return web.Response(status=304, headers=headers)
            case Unsatisfiable():
                outside: dict[str, str] = {hdrs.CONTENT_RANGE: f"bytes */{held.size}", hdrs.ACCEPT_RANGES: "bytes"}
                return plain_response(416, f"this blob has {held.size} bytes: ask for some of those", outside)
            case Slice(start, stop, partial):
                if partial:
                    headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{stop - 1}/{held.size}"
                response = web.StreamResponse(status=206 if partial else 200, headers=headers)
                response.content_type = "application/octet-stream"
                response.content_length = stop - start
                return await _send(request, response, self._blobs.read(caller.user, held, start, stop))


def _place(request: web.Request) -> tuple[str, str]:
    return request.match_info["room"], request.match_info["blob"]


async def _send(
    request: web.Request, response: web.StreamResponse, blocks: AsyncGenerator[bytes, None]
) -> web.StreamResponse:
    if request.method == hdrs.METH_HEAD:
        await response.prepare(request)
        return response
    async with aclosing(blocks) as rest:
        first = await anext(rest)  # what fails here can still be answered with a problem
        await response.prepare(request)
        await send_block(response, first)
        async for block in rest:
            await send_block(response, block)
    return response
