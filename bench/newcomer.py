"""One newcomer, a process of its own so that its memory is its own: connects, opens a room, verifies all of it.

Run as `python -m bench.newcomer URL SEED ROOM`; prints `opened SECONDS BYTES`: how long it took, and the most memory it
had. The identity is one that is thrown away with the benchmark: a seed that matters is never an argument.
"""

import re
import sys
import time
from pathlib import Path

import uvloop

from unibus.client.bus import connect
from unibus.crypto.identity import Identity


async def open_room(url: str, identity: Identity, room: str) -> float:
    """Seconds from nothing to the room's verified state. Raises UnibusError."""
    begin = time.perf_counter()
    async with connect(url, identity) as bus:
        members = (await bus.room(room)).members
        assert members
        return time.perf_counter() - begin


if __name__ == "__main__":
    seconds = uvloop.run(open_room(sys.argv[1], Identity.from_seed(sys.argv[2]), sys.argv[3]))
    kibibytes = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # proc(5)
    print("opened", seconds, int(kibibytes[0]) * 1024, flush=True)
