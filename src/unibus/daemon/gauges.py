"""The numbers that `/metrics` shows whenever it is asked, read where they are. Must never hold any of them itself."""

from collections.abc import Callable, Mapping

from unibus.model.directory import Directory


def gauges(directory: Directory, bus: Callable[[], Mapping[str, object]]) -> dict[str, tuple[str, Callable[[], float]]]:
    """Each by its name, with what it tells; `bus` gives the bus's part of `/healthz`."""
    return {
        "users": ("active users", lambda: sum(1 for user in directory.users if directory.active(user))),
        "directory_records": ("records of the directory", lambda: directory.head.sequence),
        "bus_up": ("whether nats-server serves", lambda: float(bool(bus()["ready"]))),
        "bus_restarts": ("restarts of nats-server", lambda: _number(bus()["restarts"])),
        "bus_connections": ("connections of members", lambda: _number(bus()["connections"])),
        "bus_deliveries": ("open deliveries", lambda: _number(bus()["deliveries"])),
    }


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
