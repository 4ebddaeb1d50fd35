"""`unibus send`: messages into a room, from the command line or one a line from standard input.

Bytes go out as they came in: a line that is not text is a message too.
"""

import asyncio
import os
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import emit, examples, note, say
from unibus.errors import UnibusError

if TYPE_CHECKING:
    from unibus.client.batching import Sent
    from unibus.client.messages import Position
    from unibus.client.room import Room

UNCONFIRMED = 50_000  # messages on their way before more is read
CHUNK = 2**16
LONGEST = 2**20  # more than a message may have: such a line is refused without reading it to its end


@click.command(
    "send",
    short_help="send messages into a room",
    epilog=examples('unibus send ops "the door is open"', "tail -f app.log | unibus send ops"),
)
@click.argument("room")
@click.argument("text", nargs=-1)
@pass_shared
def command(shared: Shared, room: str, text: tuple[str, ...]) -> None:
    """Send TEXT into ROOM; without TEXT, every line of standard input. Returns when the bus has stored it all."""

    async def work() -> "tuple[int, Position | None]":
        async with shared.bus() as bus:
            found = await bus.room(room)
            return await send_all(found, one(os.fsencode(" ".join(text))) if text else lines(sys.stdin.fileno()))

    count, position = run(work())
    if shared.json:
        emit({"room": room, "sent": count, "position": str(position) if position else None})
    elif count == 1:
        say(f"sent {position}")
    else:
        say(f"sent {count} messages, the last at {position}" if count else "nothing to send")


async def send_all(room: "Room", messages: AsyncIterator[bytes]) -> "tuple[int, Position | None]":
    """Send all in their order; how many, and the last one's position. Notes how many were stored when one fails."""
    stored = 0
    position: Position | None = None
    waiting: deque[Sent] = deque()
    try:
        async for message in messages:
            await room.room_to_post()
            waiting.append(room.post(message))
            if len(waiting) > UNCONFIRMED:
                position, stored = await waiting.popleft(), stored + 1
        while waiting:
            position, stored = await waiting.popleft(), stored + 1
    except UnibusError:
        rest = await asyncio.gather(*waiting, return_exceptions=True)
        stored += sum(not isinstance(outcome, BaseException) for outcome in rest)
        if stored:
            note(f"{stored} of the messages before this are stored")
        raise
    return stored, position


async def one(message: bytes) -> AsyncIterator[bytes]:
    """Just this message."""
    yield message


async def lines(descriptor: int) -> AsyncIterator[bytes]:
    """Every line that can be read from `descriptor`, as it comes, without its newline."""
    rest = b""
    while True:
        await _readable(descriptor)
        chunk = os.read(descriptor, CHUNK)
        if not chunk:
            break
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
        if len(rest) > LONGEST:
            break
    if rest:
        yield rest


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(descriptor, ready.set)
    except PermissionError:
        return  # a plain file: epoll does not take it, and it never keeps anybody waiting
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
