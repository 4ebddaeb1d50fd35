"""Free ports for nodes on loopback that are ended and started again: the port must still be theirs then.

The system gives outgoing connections ports of a range of its own, among them any that was free a moment ago. So these
are taken from below it.
"""

import contextlib
import random
import socket
from contextlib import ExitStack
from pathlib import Path

from unibus.cluster.local import LOOPBACK

_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST, _LAST = 10_000, 32_768  # the end is Linux's own default for the beginning of that range


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, all different, outside the range of outgoing connections."""
    below = _LAST
    with contextlib.suppress(OSError, ValueError, IndexError):
        below = int(_OUTGOING.read_text().split()[0])
    below = below if below > 2 * _FIRST else _LAST
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = random.randrange(_FIRST, below)  # noqa: S311 - no secret
            with contextlib.suppress(OSError):
                held.enter_context(socket.create_server((LOOPBACK, port)))
                found.append(port)
    return found
