"""The routes of blobs, below `/v1/rooms/{room}/blobs`: uploads in signed parts, downloads with ranges, lists, deletion.

Everything that an upload depends on is in the address or in the body, which the signature covers; Range and the
conditions of a download are not covered and need not be, because its reader checks every byte. Decides nothing
itself.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import hdrs, web

from unibus.crypto.encoding import b64u, unb64u
from unibus.errors import InvalidInput, UnibusError
from unibus.http.api import answer, read_model
from unibus.http.auth import Authenticator
from unibus.http.problems import plain_response
from unibus.http.ranges import NotModified, Slice, Unsatisfiable, choose
from unibus.model.blobs import MAX_MANIFEST, MAX_PART, check_blob_id
from unibus.model.wire import PAGE, BlobBegin, BlobComplete, BlobsPage, BlobView, UploadView
from unibus.services.blobs import Blobs
from unibus.store.blob_port import Held, Upload

STALL_SECONDS = 60.0
"""How long a reader may take to accept a block of a download."""
_BODY = 2 * MAX_MANIFEST
_NUMBER = re.compile(r"[0-9]{1,16}")


def _number(query: Mapping[str, str], name: str, default: str | None, top: int) -> int:
    text = query.get(name, default)
    if text is None or not _NUMBER.fullmatch(text) or int(text) > top:
        raise InvalidInput(f"the parameter {name!r} is a number from 0 to {top}")
    return int(text)


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

    def routes(self) -> list[web.RouteDef]:
        """All routes, for `Application.add_routes`."""
        blob = "/v1/rooms/{room}/blobs/{blob}"
        return [
            web.get("/v1/rooms/{room}/blobs", self.page, allow_head=False),
            web.get(blob, self.read),
            web.delete(blob, self.delete),
            web.get(f"{blob}/info", self.info, allow_head=False),
            web.get(f"{blob}/upload", self.upload, allow_head=False),
            web.put(f"{blob}/upload", self.begin),
            web.patch(f"{blob}/upload", self.receive),
            web.post(f"{blob}/upload", self.complete),
            web.delete(f"{blob}/upload", self.abandon),
        ]

    async def page(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request)
        limit = max(1, _number(request.query, "limit", str(PAGE), PAGE))
        after = request.query.get("after", "")
        if after:
            check_blob_id(after)
        found = await self._blobs.page(caller.user, request.match_info["room"], after, limit + 1)
        more = len(found) > limit
        views = [_blob_view(held) for held in found[:limit]]
        return answer(BlobsPage(blobs=views, next=views[-1].id if more else None))

    async def info(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request)
        return answer(_blob_view(await self._blobs.find(caller.user, *_place(request))))

    async def upload(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request)
        return answer(_upload_view(await self._blobs.upload(caller.user, *_place(request))))

    async def begin(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request, _BODY)
        body = read_model(BlobBegin, caller.body)
        return answer(_upload_view(await self._blobs.begin(caller.user, *_place(request), body.size)))

    async def receive(self, request: web.Request) -> web.Response:
        user, blocks = await self._authenticator.authenticate_stream(request, MAX_PART)
        offset = _number(request.query, "offset", None, 2**53)
        return answer(_upload_view(await self._blobs.receive(user, *_place(request), offset, blocks)))

    async def complete(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request, _BODY)
        body = read_model(BlobComplete, caller.body)
        held = await self._blobs.complete(caller.user, *_place(request), unb64u(body.manifest))
        return answer(_blob_view(held), 201)

    async def abandon(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request)
        await self._blobs.abandon(caller.user, *_place(request))
        return web.Response(status=204)

    async def delete(self, request: web.Request) -> web.Response:
        caller = await self._authenticator.authenticate(request)
        await self._blobs.delete(caller.user, *_place(request))
        return web.Response(status=204)

    async def read(self, request: web.Request) -> web.StreamResponse:
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
        try:
            await _write(response, first)
            async for block in rest:
                await _write(response, block)
        except (UnibusError, TimeoutError) as error:
            # Part of the blob is out: only an aborted connection tells the reader that it is not whole.
            raise ConnectionAbortedError from error
    return response


async def _write(response: web.StreamResponse, block: bytes) -> None:
    async with asyncio.timeout(STALL_SECONDS):
        await response.write(block)
