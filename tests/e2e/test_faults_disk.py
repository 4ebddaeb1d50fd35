"""No space left for messages: `/healthz` says so before any is lost, and all goes on once there is some.

The messages lie on a small disk of their own, in a mount namespace that ends with the daemon.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.test_faults import begin, health, health_where, serves, well
from tests.support.daemon import Daemon
from tests.support.people import Place
from tests.support.processes import no_nats_server
from unibus.errors import BusUnavailable, LimitReached

DISK = 24 * 2**20
SPARE = 2**20


@pytest.fixture
def messages(data_dir: Path) -> Path:
    """Where the messages go."""
    found = data_dir / "nats"
    found.mkdir(parents=True, mode=0o700)
    data_dir.chmod(0o700)
    return found


@pytest.fixture
async def daemon(data_dir: Path, messages: Path) -> AsyncIterator[Daemon]:
    """A daemon whose messages have 24 MiB."""
    mount = f'mount -t tmpfs -o size={DISK},mode=700 tmpfs "{messages}" && exec "$@"'
    own = {name: value for name, value in os.environ.items() if not name.startswith("UNIBUS_")}
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh"),
        *(sys.executable, "-m", "unibus.daemon", "--data-dir", str(data_dir)),
        *("--http-bind", "127.0.0.1:0", "--nats-bind", "127.0.0.1:0"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=own,
    )
    daemon = Daemon(process, data_dir)
    try:
        await daemon.ready()
        yield daemon
    finally:
        if process.returncode is None:
            await daemon.kill()
        await no_nats_server(data_dir)


def fill(daemon: Daemon) -> Path:
    """A file on the daemon's small disk that leaves little space, as it is seen from here."""
    disk = Path(f"/proc/{daemon.process.pid}/root{daemon.data_dir}/nats")
    facts = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(bytes(facts.f_bavail * facts.f_frsize - SPARE))
    return filler


async def send_until_refused(place: Place) -> int:
    """How many large messages were stored before one was not."""
    async with place.enter("ada") as ada:
        room = await ada.room("ops")
        for number in range(20):
            try:
                async with asyncio.timeout(5):  # the client goes on trying for longer than that
                    await room.send(bytes(500_000))
            except (BusUnavailable, LimitReached, TimeoutError):
                return number
    pytest.fail("twenty half megabytes fit into one")


@pytest.mark.faults
@pytest.mark.timeout(120)
async def test_a_full_disk_is_named_and_passes(daemon: Daemon) -> None:
    await begin(daemon)
    filler = fill(daemon)
    (reason,) = (await health(daemon))["reasons"]
    assert reason == "the disk for messages has 1 MiB left: make room on it"
    stored = await send_until_refused(Place(daemon.url, daemon.data_dir))
    assert stored < 3
    (reason,) = (await health(daemon))["reasons"]
    assert reason == "the disk for messages has 0 MiB left: make room on it"
    told = [str(entry["line"]) for entry in daemon.log if "no space left on device" in str(entry.get("line"))]
    assert told
    filler.unlink()
    shown = await health_where(daemon, lambda found: not well(found) and "a write had failed" in found["reasons"][0])
    assert not shown["bus"]["ready"]
    await health_where(daemon, well)
    await serves(daemon)
    assert await daemon.stop() == 0
