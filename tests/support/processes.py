"""What runs on this machine, read from /proc: so that tests can kill the real thing and see that nothing is left."""

import asyncio
import os
import signal
from pathlib import Path

WAIT = 15.0  # seconds that anything here may take


def nats_servers(data_dir: Path) -> list[int]:
    """The process numbers of the nats-servers that run on `data_dir`."""
    wanted = str(data_dir / "run" / "nats-server.conf").encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue  # it ended while we looked
            if wanted in arguments and b"nats-server" in arguments[0]:
                found.append(int(entry.name))
    return found


def kill_nats_server(data_dir: Path) -> None:
    """`kill -9` the one nats-server of `data_dir`."""
    (pid,) = nats_servers(data_dir)
    os.kill(pid, signal.SIGKILL)


async def no_nats_server(data_dir: Path) -> None:
    """Return once no nats-server runs on `data_dir`; fail if that takes too long."""
    async with asyncio.timeout(WAIT):
        while nats_servers(data_dir):  # noqa: ASYNC110 - the kernel tells only the parent, and that is gone
            await asyncio.sleep(0.01)
