"""From operations to routes: each handler within its time, with tags where they were declared; and a node that ends."""

import asyncio
from collections.abc import Callable
from functools import wraps

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from unibus.errors import AnswerTimeout
from unibus.http.caching import conditional
from unibus.http.operations import Handler, Operation


def route(operation: Operation, seconds: float) -> web.RouteDef:
    """The route that serves `operation`, for at most `seconds` unless it moves blobs."""
    handler = operation.handler if operation.moves_blobs else _within(seconds, operation.handler)
    options = {"allow_head": operation.head} if operation.method == hdrs.METH_GET else {}
    return web.RouteDef(
        operation.method, operation.path, conditional(handler) if operation.tagged else handler, options
    )


def closing(draining: Callable[[], bool]) -> Middleware:
    """While `draining`, each connection ends with its next answer: whoever asked goes to another node by then."""

    @web.middleware
    async def close(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if draining():
            response.force_close()
        return response

    return close


def _within(seconds: float, handler: Handler) -> Handler:
    @wraps(handler)
    async def timed(request: web.Request) -> web.StreamResponse:
        clock = asyncio.timeout(seconds)
        try:
            async with clock:
                return await handler(request)
        except TimeoutError:
            if not clock.expired():
                raise
            raise AnswerTimeout(f"this took longer than {seconds:g} s; ask again, it may have been done") from None

    return timed
