"""From operations to routes: each handler within its time, with tags where they were declared; and a node that ends."""

from collections.abc import Callable
from functools import wraps

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

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


def closing(draining: Callable[[], bool]) -> Middleware:
    """While `draining`, each connection ends with its next answer: whoever asked goes to another node by then."""

    @web.middleware
    async def close(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if draining():
            response.force_close()
        return response

    return close


def _within(deadlines: Deadlines, handler: Handler) -> Handler:
    @wraps(handler)
    async def timed(request: web.Request) -> web.StreamResponse:
        return await deadlines.within(handler(request))

    return timed
