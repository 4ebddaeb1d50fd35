"""`unibus send`: messages into a room, from the command line or one a line from standard input."""

import sys
from collections.abc import Iterator

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import emit, say


@click.command("send", short_help="send messages into a room")
@click.argument("room")
@click.argument("text", nargs=-1)
@pass_shared
def command(shared: Shared, room: str, text: tuple[str, ...]) -> None:
    """Send TEXT into ROOM; without TEXT, every line of standard input. Returns when the bus has stored it all."""

    async def work() -> tuple[int, str]:
        count, last = 0, None
        async with shared.bus() as bus:
            found = await bus.room(room)
            for line in [" ".join(text)] if text else _lines():
                await found.room_to_post()
                last, count = found.post(line), count + 1
            if last is None:
                return 0, ""
            await found.drain()
            return count, str(await last)

    count, position = run(work())
    if shared.json:
        emit({"room": room, "sent": count, "position": position or None})
    elif count == 1:
        say(f"sent {position}")
    else:
        say(f"sent {count} messages, the last at {position}" if count else "nothing to send")


def _lines() -> Iterator[str]:
    for line in sys.stdin:
        yield line.rstrip("\n")
