"""From operations to routes: each handler within its time, with tags where they were declared."""

from functools import wraps

from aiohttp import hdrs, web

from unibus.http.caching import conditional
from unibus.http.deadlines import Deadlines
from unibus.http.operations import Handler, Operation


def route(operation: Operation, deadlines: Deadlines) -> web.RouteDef:
    """The route that serves `operation`, within `deadlines` unless it moves blobs."""
    handler = operation.handler if operation.moves_blobs else _within(deadlines, operation.handler)
    options = {"allow_head": operation.head} if operation.method == hdrs.METH_GET else {}
    return web.RouteDef(
        operation.method, operation.path, conditional(handler) if operation.tagged else handler, options
    )


def _within(deadlines: Deadlines, handler: Handler) -> Handler:
    @wraps(handler)
    async def timed(request: web.Request) -> web.StreamResponse:
        return await deadlines.within(handler(request))

    return timed
