"""How much of the disk messages may take: what is there, less what everything else needs to go on.

nats-server's own choice is three quarters of what is free at its start, which after a restart can be less than it
already holds. Must never let messages take the last of a disk: what is signed and kept beside them has to fit.

Where records lie there too, nats-server is told a limit that it never reaches, and the daemon keeps to the real one
(`reserve`): in a cluster that is at its limit nothing has a leader any more, neither messages nor records.
"""

import os
import shutil
from pathlib import Path

KEPT_FREE = 10
"""One part in so many of the disk stays free."""
LEAST = 64 << 20
_BEYOND = 1 << 60


def store_limit(total: int, free: int, used: int) -> int:
    """Bytes that messages may take on a disk of `total` bytes, `free` of them free, while they take `used`."""
    return max(LEAST, used + free - total // KEPT_FREE)


def measured_limit(directory: Path) -> int:
    """The same for the disk that `directory` is on, which holds the messages. Raises OSError."""
    disk = shutil.disk_usage(directory)
    return store_limit(disk.total, disk.free, _used(directory))


def out_of_reach(most: int) -> int:
    """What to tell nats-server, which never comes so far, where it may really store `most` bytes."""
    return _BEYOND + most


def meant(told: int) -> int:
    """How many bytes a nats-server that shows `told` as its limit may really store."""
    return told - _BEYOND if told >= _BEYOND else told


def _used(directory: Path) -> int:
    used = 0
    for where, _, names in os.walk(directory):
        for name in names:
            used += Path(where, name).lstat().st_blocks * 512
    return used
