"""A bus that stands still, made to be moved, and the command that moves it; what has to be true of it afterwards."""

import asyncio
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.builders import identity
from tests.cli.commands import UNIBUS, Ran
from tests.support.people import Place, tail
from unibus import connect
from unibus.client.messages import Position
from unibus.daemon.moved import Moved, note_moved
from unibus.errors import NotFound, UnibusError

WAIT = 60.0
PART = 8 * 2**20
BLOB = os.urandom(PART + 1000)
"""Two parts."""


@dataclass(frozen=True)
class Kept:
    """A bus as it was when its daemon was stopped; `states` are what its members have seen, one directory for all."""

    data_dir: Path
    states: Path
    bus: str
    blob: str
    positions: list[Position]

    def copy(self, to: Path, *, stood_still_for: float = 0.0) -> Path:
        """A copy of the data directory, as it is when a move of it was tried that many seconds ago, if any."""
        shutil.copytree(self.data_dir, to)
        if stood_still_for:
            at = int(time.time() - stood_still_for)
            note_moved(to, Moved(bus=self.bus, to="http://127.0.0.1:1", at=at, done=False))
        return to


async def make(place: Place, home: Path) -> Kept:
    """Fill the bus that nobody has founded yet at `place`: ada and bob are in a room, eve was, and mal is revoked."""
    states = home / "states"
    await asyncio.to_thread(states.mkdir)
    await place.found("bob", "eve", "mal")
    async with place.enter("ada", states / "ada") as ada, place.enter("eve", states / "eve") as eve:
        room = await ada.create_room("hall")
        for name in ("bob", "eve"):
            await room.add(name)
        for number in range(5):
            await room.send(str(number))
        source = home / "a plan"
        await asyncio.to_thread(source.write_bytes, BLOB)
        blob = await room.put_blob(source, "plan")
        async with tail(await eve.room("hall")) as reading:
            await reading.until(5)
        await room.remove("eve")
        await ada.revoke("mal")
        await room.send("without eve")
        async with place.enter("bob", states / "bob") as bob, tail(await bob.room("hall")) as reading:
            await reading.until(6)
        return Kept(place.data_dir, states, ada.id, blob, reading.positions)


async def migrate(data_dir: Path, url: str, token: Path | str, *flags: str, options: tuple[str, ...] = ()) -> Ran:
    """Run the command to its end."""
    process = await start(data_dir, url, token, *flags, options=options)
    async with asyncio.timeout(WAIT):
        out, said = await process.communicate()
    assert b"Traceback" not in said, said.decode()
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), said.decode())


async def start(
    data_dir: Path, url: str, token: Path | str, *flags: str, options: tuple[str, ...] = ()
) -> asyncio.subprocess.Process:
    """Begin the command."""
    return await asyncio.create_subprocess_exec(
        *(UNIBUS, "--json", *options, "migrate-to-kv", url, "--from", data_dir, "--token-file", token, *flags),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"HOME": str(data_dir.parent), "PATH": os.environ["PATH"]},
    )


async def goes_on(kept: Kept, url: str, home: Path, ca: Path | None = None, *, since: int = 0) -> None:
    """Check that members find at `url` all that they have seen, with what they had pinned, and nobody else anything.

    `since` is how many messages were sent after the move.
    """
    shutil.copytree(kept.states, home)
    async with connect(url, identity("bob"), state=home / "bob", ca=ca) as bob:
        assert bob.id == kept.bus
        room = await bob.room("hall")
        async with tail(room) as reading:
            assert (await reading.until(6 + since))[:6] == ["0", "1", "2", "3", "4", "without eve"]
            assert reading.positions[:6] == kept.positions
        await room.get_blob(kept.blob, home / "plan")
        assert await asyncio.to_thread((home / "plan").read_bytes) == BLOB
    async with connect(url, identity("ada"), state=home / "ada", ca=ca) as ada:
        room = await ada.room("hall")
        async with tail(room) as reading:
            await room.send("here")
            assert (await reading.until(7 + since))[-1] == "here"
    async with connect(url, identity("eve"), state=home / "eve", ca=ca) as eve:
        with pytest.raises(NotFound):
            await eve.room("hall")
    with pytest.raises(UnibusError, match="not an active user"):
        async with connect(url, identity("mal"), ca=ca):
            pass
