"""From a request to its handler, by aiohttp's server and router. What its Application would add is not used here.

That is applications within applications, each with middlewares and signals, looked for at every request. Must never
hide a request from what answers all of them: one for an address that is not there goes to it too.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict

Answering = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]
Tell = Callable[[CIMultiDict[str]], None]


def dispatching(routes: Iterable[web.AbstractRouteDef], answering: Answering, tell: Tell) -> web.Server:
    """A server for `routes` on the running loop.

    `answering` is given each request and its handler, which is to answer it; the handler of what has no route raises
    web.HTTPException. `tell` sets in an answer's headers what all answers say.
    """
    router = web.UrlDispatcher()
    router.add_routes(routes)
    router.freeze()
    # Of an address without variables there is only one thing to find, once and for all; the rest is for the router.
    plain = {
        (route.method, route.resource.canonical): web.UrlMappingMatchInfo({}, route)
        for route in router.routes()
        if isinstance(route.resource, web.PlainResource)
    }

    class Routed(web.Request):
        """A request that finds its handler itself."""

        async def _prepare_hook(self, response: web.StreamResponse) -> None:
            tell(response.headers)

        async def answer(self) -> web.StreamResponse:
            """What a handler answers."""
            found = plain.get((self.method, self.rel_url.raw_path))
            if found is None:
                found = await router.resolve(self)
            self._match_info = found
            return await answering(self, partial(_as_expected, found) if hdrs.EXPECT in self.headers else found.handler)

    made = partial(Routed, loop=asyncio.get_running_loop())
    return web.Server(Routed.answer, request_factory=made)  # type: ignore[arg-type]  # it gets what the factory made


async def _as_expected(found: web.UrlMappingMatchInfo, request: web.Request) -> web.StreamResponse:
    """What the handler answers who waits for leave to send a body. Raises web.HTTPException for other expectations."""
    refusal = await found.expect_handler(request)
    await request.writer.drain()
    return refusal if refusal is not None else await found.handler(request)
