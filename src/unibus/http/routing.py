"""From operations to routes: each handler within its time, with tags where they were declared."""

from aiohttp import hdrs, web

from unibus.http.caching import conditional
from unibus.http.deadlines import Deadlines
from unibus.http.operations import Operation


def route(operation: Operation, deadlines: Deadlines) -> web.RouteDef:
    """The route that serves `operation`, within `deadlines` unless it moves blobs."""
    handler = operation.handler if operation.moves_blobs else deadlines.bound(operation.handler)
    options = {"allow_head": operation.head} if operation.method == hdrs.METH_GET else {}
    return web.RouteDef(
        operation.method, operation.path, conditional(handler) if operation.tagged else handler, options
    )
