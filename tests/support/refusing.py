"""A node before the node, that sees the parts of blobs as they pass: how many at once, and which are answered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from io import BytesIO

import aiohttp
from aiohttp import web
from yarl import URL

from unibus.errors import UploadConflict
from unibus.model.problem import to_problem

_OF_ONE_WAY = {"content-length", "transfer-encoding", "connection", "date", "server"}


class PartsSeen:
    """Passes all on to `target`. `early` says whether a part that comes before the last is answered is passed on.

    `answered` is how far the parts reach that the node behind has acknowledged; `acknowledged` is awaited before the
    client hears of one, with how many others are on their way.
    """

    def __init__(self, target: str, *, early: bool = True) -> None:
        self._target = target
        self._early = early
        self.acknowledged: Callable[[int], Awaitable[None]] | None = None
        self.passing = self.most = self.refused = self.answered = 0
        self.url = ""

    async def serve(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        """What the node behind answers, or a refusal; a cut where it is gone."""
        part = request.method == "PATCH"
        if part and self.passing and not self._early:
            self.refused += 1
            error = UploadConflict("another request sends this upload now", offset=self.answered)
            return web.json_response(to_problem(error), status=error.status, content_type="application/problem+json")
        self.passing += part
        self.most = max(self.most, self.passing)
        try:
            return await self._pass_on(request, session, part=part)
        except (aiohttp.ClientError, OSError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)
        finally:
            self.passing -= part

    async def _pass_on(self, request: web.Request, session: aiohttp.ClientSession, *, part: bool) -> web.Response:
        body = await request.read()
        url = URL(self._target + request.raw_path, encoded=True)
        async with session.request(
            request.method, url, data=BytesIO(body) if body else None, headers=request.headers
        ) as response:
            answer = await response.read()
        if part and response.status < 300:
            self.answered = max(self.answered, int(request.query["offset"]) + len(body))
            if self.acknowledged is not None:
                await self.acknowledged(self.passing - 1)
        headers = {name: value for name, value in response.headers.items() if name.lower() not in _OF_ONE_WAY}
        return web.Response(status=response.status, body=answer, headers=headers)


@asynccontextmanager
async def parts_seen(target: str, *, early: bool = True) -> AsyncIterator[PartsSeen]:
    """A `PartsSeen` that listens on a free port."""
    seen = PartsSeen(target, early=early)
    async with aiohttp.ClientSession() as session:

        async def serve(request: web.BaseRequest) -> web.StreamResponse:
            assert isinstance(request, web.Request)
            return await seen.serve(request, session)

        app = web.Application(client_max_size=2**25)
        app.router.add_route("*", "/{path:.*}", serve)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            seen.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield seen
        finally:
            await runner.cleanup()
            await asyncio.sleep(0)  # transports that were closed let go of their sockets in the loop's next turn
