"""`/metrics`: what this node did, for Prometheus. Counts and times; no user, room or address ever becomes a label."""

import time
from collections.abc import Callable, Mapping
from functools import cache

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from unibus.errors import UnibusError
from unibus.http.operations import Answer, Asker, Operation

AUTH_STATUSES = {401, 403}


class Metrics:
    """One node's meters, in a registry of their own. `gauges` are read when somebody asks."""

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "unibus_http_requests", "HTTP requests answered", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "unibus_http_request_seconds",
            "time from a request's headers to its answer",
            ["route"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
            registry=self._registry,
        )
        self._auth = Counter("unibus_http_auth", "outcomes of signed requests", ["outcome"], registry=self._registry)
        # Looking a label up costs as much as the rest of a small request's bookkeeping; there are only so many.
        self._requests_of = cache(self._requests.labels)
        self._seconds_of = cache(self._seconds.labels)
        self._auth_of = cache(self._auth.labels)
        self.loop_lag = Gauge("unibus_loop_lag_seconds", "how late the event loop last was", registry=self._registry)
        self._bus_auth = Counter(
            "unibus_bus_auth", "outcomes of connections to the bus", ["outcome"], registry=self._registry
        )
        self.bus_cut_offs = Counter(
            "unibus_bus_cut_offs",
            "times that a user was cut off from the bus for sending too much",
            registry=self._registry,
        )
        self.held = {
            name: Gauge(f"unibus_{name}", text, registry=self._registry)
            for name, text in (
                ("rooms", "rooms, archived ones among them"),
                ("records", "records of the directory and of all rooms"),
                ("blob_bytes", "bytes of stored blobs"),
            )
        }
        for name, (text, read) in gauges.items():
            self.watch(name, text, read)

    def bus_decided(self, outcome: str) -> None:
        """Count a connection to the bus: `ok`, or the code of what it was refused for."""
        self._bus_auth.labels(outcome).inc()

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show what `read` gives as the gauge `name`, whenever somebody asks."""
        Gauge(f"unibus_{name}", text, registry=self._registry).set_function(read)

    def middleware(self) -> Middleware:
        """Counts every request; goes inside the middleware that makes problems of errors."""

        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.perf_counter()
            status, outcome = 500, "ok"
            try:
                response = await handler(request)
                status = response.status
            except UnibusError as error:
                status, outcome = error.status, error.code
                raise
            except web.HTTPException as error:
                status = error.status
                raise
            else:
                return response
            finally:
                route = _route(request)
                self._requests_of(route, str(status)).inc()
                self._seconds_of(route).observe(time.perf_counter() - began)
                if "Signature" in request.headers or status == 401:
                    self._auth_of(outcome if status in AUTH_STATUSES else "ok").inc()

        return count

    def operation(self) -> Operation:
        """What Prometheus asks."""

        async def metrics(_request: web.Request) -> web.Response:
            """What this node did, for Prometheus."""
            return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

        return Operation(
            "GET", "/metrics", metrics, Asker.ANYBODY, [Answer(200, "the meters", "text/plain")], head=True
        )


def _route(request: web.Request) -> str:
    # The pattern, not the path: paths hold room ids, and a stranger could make any number of them.
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "none"
