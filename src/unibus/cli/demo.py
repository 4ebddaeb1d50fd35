"""`unibus demo`: the main story against a throw-away daemon, a line a step as it happens.

Three people, one encrypted room, a server that cannot read it, and a removal that takes effect now. Every step is
checked; the first that does not hold ends the demo with exit code 1. What it starts it ends, what it writes it removes.
"""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import emit, say
from unibus.errors import NotFound, StartRefused, UnibusError

if TYPE_CHECKING:
    from unibus.client.messages import Message
    from unibus.client.room import Room

SECONDS = 30.0
SECRET = "the vault code is 4711"  # noqa: S105 - what the demo looks for on the server's disk


class StepFailedError(UnibusError):
    """A step of the story did not hold."""

    code, title = "demo-failed", "the demo did not hold"


class Story:
    """Tells the steps: what happened, and how long it took."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._last = time.perf_counter()
        self._number = 0

    def tell(self, text: str, *, held: bool = True) -> None:
        """Tell one step. Raises StepFailedError when it did not hold."""
        now = time.perf_counter()
        self._number += 1
        took, self._last = (now - self._last) * 1000, now
        if self._json:
            emit({"step": self._number, "text": text, "held": held, "ms": round(took, 1)})
        else:
            say(f"{self._number:2}  {'ok  ' if held else 'FAIL'}  {text:68}  {took:7.1f} ms")
        if not held:
            raise StepFailedError(f"step {self._number} did not hold: {text}")


@click.command("demo", short_help="the story of a bus, told against a throw-away daemon")
@pass_shared
def command(shared: Shared) -> None:
    """Tell the story of a bus: three people, one encrypted room, one removal. Takes a few seconds, leaves nothing."""
    run(_tell(Story(as_json=shared.json)))


async def _tell(story: Story) -> None:
    with tempfile.TemporaryDirectory(prefix="unibus-demo-") as name:
        async with asyncio.timeout(SECONDS), _daemon(Path(name) / "data") as url:
            await _play(story, url, Path(name))
        story.tell("the daemon and its nats-server have ended")


@asynccontextmanager
async def _daemon(data_dir: Path) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "unibus.daemon", "--data-dir", str(data_dir)),
        *("--http-bind", "127.0.0.1:0", "--nats-bind", "127.0.0.1:0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker: it was asked for
    assert process.stderr is not None  # noqa: S101 - the same
    log = asyncio.create_task(process.stderr.read(), name="demo daemon log")
    try:
        while line := (await process.stdout.readline()).decode():
            if line.split()[:1] == ["http"]:
                yield f"http://{line.split()[1]}"
                break
        else:
            raise StartRefused(f"the daemon did not start: {(await log).decode().strip()[-400:]}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate() if log.done() else await asyncio.gather(process.wait(), log)


async def _play(story: Story, url: str, home: Path) -> None:
    from unibus.client.bus import connect
    from unibus.client.founding import found_bus
    from unibus.client.health import fetch_health
    from unibus.client.identity_file import new_identity

    health = await fetch_health(url, 5)
    story.tell(
        f"a daemon runs: nats-server {health['bus']['version']}, bus-auth {health['bus_auth']}",
        held=health["status"] == "ok" and health["acl"],
    )
    alice, bob, carol = (new_identity(home / f"{name}.nk") for name in ("alice", "bob", "carol"))
    token = (home / "data" / "bootstrap-token").read_text().strip()
    bus_id = await found_bus(url, alice, token, "alice")
    story.tell(f"alice founds bus {bus_id[:12]}… with the one-time token")
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(connect(url, alice, bus=bus_id))
        await a.admit("bob", bob.card())
        await a.admit("carol", carol.card())
        story.tell("alice admits bob and carol by their cards", held=len(await a.users()) == 3)
        room = await a.create_room("ops")
        await room.add("bob")
        await room.add("carol")
        story.tell("alice makes the room ops and adds both", held=set(room.members) == {"alice", "bob", "carol"})
        b = await stack.enter_async_context(connect(url, bob, bus=bus_id))
        c = await stack.enter_async_context(connect(url, carol, bus=bus_id))
        bobs, carols = await b.room("ops"), await c.room("ops")
        await _talk(story, home, room, bobs, carols)
        await _part(story, room, bobs, carols)


async def _talk(story: Story, home: Path, room: "Room", bobs: "Room", carols: "Room") -> None:
    await room.send(SECRET)
    got = [*await _take(bobs, 1), *await _take(carols, 1)]
    story.tell(f"alice writes, bob and carol read: {got[0].text!r}", held=all(m.text == SECRET for m in got))
    at = await bobs.send("got it")
    back = await _take(room, 2)
    story.tell(f"bob answers at {at}, alice reads: {back[1].text!r}", held=back[1].handle == "bob")
    files = [path for path in (home / "data").rglob("*") if path.is_file()]
    found = [path for path in files if SECRET.encode() in path.read_bytes()]
    story.tell(f"nothing of it is in the server's {len(files)} files", held=bool(files) and not found)


async def _part(story: Story, room: "Room", bobs: "Room", carols: "Room") -> None:
    reading = asyncio.create_task(_read_on(carols), name="carol reads")
    await asyncio.sleep(0.1)
    await room.remove("carol")
    story.tell(
        f"alice removes carol: the key is now of epoch {room.state.epoch.number}", held=room.state.epoch.number == 2
    )
    try:
        ended = None
        await asyncio.wait_for(reading, 5)
    except NotFound as error:
        ended = error
    story.tell("carol's live connection is cut, and her reading ends", held=ended is not None)
    await room.send("carol is gone")
    last = (await _take(bobs, 3))[-1]
    story.tell(f"alice writes, bob reads: {last.text!r}", held=last.text == "carol is gone")
    for what, attempt in (("read on", _read_on(carols)), ("write", _send(carols))):
        try:
            await attempt
            refused = None
        except NotFound as error:
            refused = error
        story.tell(f"carol cannot {what}: {refused}", held=refused is not None)


async def _send(room: "Room") -> None:
    await room.send("am I still here?")


async def _take(room: "Room", count: int) -> "list[Message]":
    """The room's first `count` messages."""
    taken: list[Message] = []
    async with aclosing(room.messages("start")) as messages:
        async for message in messages:
            taken.append(message)
            if len(taken) == count:
                break
    return taken


async def _read_on(room: "Room") -> None:
    async with aclosing(room.messages("start")) as messages:
        async for _ in messages:
            pass
