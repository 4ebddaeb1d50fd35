"""What the service manager is told about this process, by the protocol of sd_notify(3), and when its watchdog is fed.

Must never let text from elsewhere become a field of its own, and never hold the event loop for long.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from unibus.bus.backoff import LONGEST
from unibus.bus.life import READY_WITHIN, STOP_GRACE

STUCK_AFTER = READY_WITHIN + LONGEST + 6 * STOP_GRACE
"""Seconds in which nats-server is either up or was started once more, however badly the machine is doing."""
_LONGEST_STATUS = 250
_SEND_WITHIN = 0.2
_STATUS_EVERY = 15.0

Bus = Mapping[str, object]
"""The bus's part of `/healthz`."""


def message(fields: Mapping[str, str]) -> bytes:
    """One datagram of sd_notify(3). What no line can hold is a blank in it: a status must not bring fields along."""
    return "\n".join(f"{name}={_one_line(value)}" for name, value in fields.items()).encode("utf-8", "replace")


def address(name: str) -> str | None:
    """The socket's address for a NOTIFY_SOCKET: a path, or `@` and an abstract name; None for what is neither."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else None


def watchdog_interval(variables: Mapping[str, str], pid: int) -> float | None:
    """Seconds between two feedings, half of what the manager waits (sd_watchdog_enabled(3)); None if it does not."""
    wanted = variables.get("WATCHDOG_USEC", "")
    if not (wanted.isascii() and wanted.isdigit()) or int(wanted) == 0:
        return None
    if variables.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None  # meant for whoever started this process
    return int(wanted) / 2e6


@dataclass(frozen=True, slots=True)
class Pulse:
    """What was last seen of the bus, and when (`at`, seconds of a monotonic clock) it last showed that it is cared for.

    A bus that is down while the daemon tries to start it again shows that as well as one that is up: a full disk or a
    lost quorum is no reason to restart the daemon.
    """

    at: float
    restarts: object = 0

    def after(self, bus: Bus, now: float) -> "Pulse":
        """The pulse after a look at the bus."""
        cared_for = bus["up"] or bus["restarts"] != self.restarts
        return replace(self, at=now, restarts=bus["restarts"]) if cared_for else self

    def alive(self, now: float) -> bool:
        """Whether there is any point in going on as we are."""
        return now - self.at < STUCK_AFTER


class Manager:
    """The service manager that started this process, named by `variables`; without one, telling does nothing."""

    def __init__(self, variables: Mapping[str, str], pid: int) -> None:
        self._address = address(variables.get("NOTIFY_SOCKET", ""))
        self.interval = watchdog_interval(variables, pid)

    def tell(self, **fields: str) -> None:
        """Send `fields`, such as READY="1", in one message. A manager that does not take it is not waited for."""
        if self._address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_manager:
            to_manager.settimeout(_SEND_WITHIN)  # its queue is short, and may be full for a moment
            to_manager.sendto(message(fields), self._address)

    async def keep_informed(
        self, look: Callable[[], Bus], said: Callable[[Bus], str], clock: Callable[[], float]
    ) -> None:
        """Tell what is `said` of each `look` at the bus, and feed the watchdog from this loop while there is a pulse.

        `clock` is monotonic. Nothing that strangers can use up (connections, a listener's queue) is asked here: whoever
        could starve the watchdog from outside could restart the daemon at will.
        """
        pulse = Pulse(clock())
        while True:
            bus, now = look(), clock()
            pulse = pulse.after(bus, now)
            self.tell(STATUS=said(bus), **({"WATCHDOG": "1"} if pulse.alive(now) else {}))
            await asyncio.sleep(self.interval or _STATUS_EVERY)


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST_STATUS]
