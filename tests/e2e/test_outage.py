"""A daemon that is away for longer than any single call waits: sending and reading go on when it is back."""

import asyncio
from pathlib import Path

from tests.builders import identity
from tests.e2e.conftest import StartDaemon
from tests.support.people import WAIT, Place, tail
from unibus import connect

PATIENCE = 0.3  # seconds for a call to the control plane


async def test_what_is_sent_while_the_daemon_is_away_arrives(start_daemon: StartDaemon, data_dir: Path) -> None:
    daemon = await start_daemon()
    binds = "--http-bind", f"127.0.0.1:{daemon.http_port}", "--nats-bind", f"127.0.0.1:{daemon.nats_port}"
    place = Place(daemon.url, data_dir)
    await place.found()
    async with (
        asyncio.timeout(WAIT),
        connect(place.url, identity("ada"), deadline=PATIENCE) as sender,
        connect(place.url, identity("ada"), deadline=PATIENCE) as reader,
    ):
        room = await sender.create_room("ops")
        async with tail(await reader.room("ops")) as reading:
            await room.send("before")
            assert await reading.until(1) == ["before"]
            await daemon.kill()
            posted = [room.post(f"meanwhile {number}") for number in range(3)]
            await asyncio.sleep(4 * PATIENCE)  # what is tested is that time passes
            posted.append(room.post("and then"))
            await start_daemon(*binds)
            for sent in posted:
                await sent
            assert await reading.until(5) == ["before", *(f"meanwhile {number}" for number in range(3)), "and then"]
