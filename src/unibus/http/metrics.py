"""`/metrics`: what this node did, for Prometheus. Counts and times; no user, room or address ever becomes a label."""

from collections.abc import Callable, Mapping

from aiohttp import web
from multidict import istr

from unibus.errors import UnibusError
from unibus.http.meters import Count, Counter, Gauge, Histogram, Meter, Times, exposition
from unibus.http.operations import Answer, Asker, Operation

AUTH_STATUSES = {401, 403}
_SIGNATURE = istr("Signature")


class Metrics:
    """One node's meters. `gauges` are read when somebody asks."""

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._requests = Counter("unibus_http_requests", "HTTP requests answered", "route", "status")
        self._seconds = Histogram(
            "unibus_http_request_seconds",
            "time from a request's headers to its answer",
            "route",
            (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 30),
        )
        self._auth = Counter("unibus_http_auth", "outcomes of signed requests", "outcome")
        self._ends: dict[tuple[web.AbstractResource | None, int], tuple[Count, Times]] = {}
        self._auth_ok = self._auth.at("ok")
        self.loop_lag = Gauge("unibus_loop_lag_seconds", "how late the event loop last was")
        self._bus_auth = Counter("unibus_bus_auth", "outcomes of connections to the bus", "outcome")
        self.bus_cut_offs = Counter(
            "unibus_bus_cut_offs", "times that a user was cut off from the bus for sending too much"
        )
        self.held = {
            name: Gauge(f"unibus_{name}", text)
            for name, text in (
                ("rooms", "rooms, archived ones among them"),
                ("records", "records of the directory and of all rooms"),
                ("blob_bytes", "bytes of stored blobs"),
            )
        }
        self._meters: list[Meter] = [
            *(self._requests, self._seconds, self._auth, self.loop_lag, self._bus_auth, self.bus_cut_offs),
            *self.held.values(),
        ]
        for name, (text, read) in gauges.items():
            self.watch(name, text, read)

    def bus_decided(self, outcome: str) -> None:
        """Count a connection to the bus: `ok`, or the code of what it was refused for."""
        self._bus_auth.inc(outcome)

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Show what `read` gives as the gauge `name`, whenever somebody asks."""
        self._meters.append(Gauge(f"unibus_{name}", text, read))

    def begins(self, request: web.Request) -> None:
        """See `Watcher.begins`."""

    def ends(self, request: web.Request, status: int, error: UnibusError | None, seconds: float) -> None:
        """See `Watcher.ends`: every request is counted."""
        # The pattern, not the path: paths hold room ids, and a stranger could make any number of them.
        resource = request.match_info.route.resource
        ends = self._ends.get((resource, status))
        if ends is None:
            route = resource.canonical if resource is not None else "none"
            ends = self._ends[resource, status] = self._requests.at(route, str(status)), self._seconds.at(route)
        count, times = ends
        count.number += 1
        times.observe(seconds)
        if _SIGNATURE in request.headers or status == 401:
            if error is not None and status in AUTH_STATUSES:
                self._auth.inc(error.code)
            else:
                self._auth_ok.number += 1

    def operation(self) -> Operation:
        """What Prometheus asks."""

        async def metrics(_request: web.Request) -> web.Response:
            """What this node did, for Prometheus."""
            shown = exposition(self._meters)
            return web.Response(body=shown.text, headers={"Content-Type": shown.content_type})

        return Operation(
            "GET", "/metrics", metrics, Asker.ANYBODY, [Answer(200, "the meters", "text/plain")], head=True
        )
