"""From operations to routes: each handler within its time, and with tags where they were declared."""

import asyncio
from functools import wraps

from aiohttp import hdrs, web

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
