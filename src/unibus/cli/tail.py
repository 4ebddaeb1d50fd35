"""`unibus tail`: the messages of a room, as they come."""

import base64
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import emit, note, printable, say

if TYPE_CHECKING:
    from unibus.client.messages import Message, Refusal


@click.command("tail", short_help="read the messages of a room")
@click.argument("room")
@click.option("--since", default="now", show_default=True, help="start, now, or a position such as 17.0 to go on after")
@click.option("--count", type=click.IntRange(min=1), help="end after so many messages")
@pass_shared
def command(shared: Shared, room: str, since: str, count: int | None) -> None:
    """Show the messages of ROOM as they come, each verified. Ctrl-C ends it."""

    async def work() -> None:
        from unibus.client.messages import parse_position

        seen = 0
        begin = since if since in {"start", "now"} else parse_position(since)
        async with shared.bus() as bus:
            found = await bus.room(room)
            async for message in found.messages(begin, on_refused=_refused):  # type: ignore[arg-type]  # one of two words, or a position
                show(message, as_json=shared.json)
                seen += 1
                if seen == count:
                    return

    run(work())


def show(message: "Message", *, as_json: bool) -> None:
    """One message as a line."""
    if not as_json:
        say(f"{message.sent_at.astimezone():%H:%M:%S}  {message.handle}  {printable(message.text)}")
        return
    facts = {
        "position": str(message.position),
        "sent_at": message.sent_at.isoformat(),
        "handle": message.handle,
        "sender": message.sender,
    }
    try:
        emit({**facts, "text": message.data.decode()})
    except UnicodeDecodeError:
        emit({**facts, "base64": base64.b64encode(message.data).decode()})


def _refused(refusal: "Refusal") -> None:
    note(f"refused frame {refusal.sequence}: {printable(refusal.error.message)} ({refusal.error.code})")
