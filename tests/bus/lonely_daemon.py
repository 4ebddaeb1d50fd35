"""A process that runs a bus and nothing else, to be killed: `python -m tests.bus.lonely_daemon DATA_DIR`."""

import asyncio
import sys
from pathlib import Path

from tests.bus.stage import Logbook, TablePolicy
from unibus.bus.options import BusOptions
from unibus.bus.plane import BusPlane


async def main() -> None:
    """Start the bus, say so, and wait for the end."""
    plane = BusPlane(BusOptions(Path(sys.argv[1]), port=0), TablePolicy(), Logbook().logger)
    await plane.start()
    print("ready", flush=True)  # noqa: T201 - the test waits for this word
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
