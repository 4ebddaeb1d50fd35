"""`unibus tail`: the messages of a room, as they come."""

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run, while_read
from unibus.cli.output import emit, examples, note, printable, say

if TYPE_CHECKING:
    from unibus.client.messages import Message, Refusal
    from unibus.client.signal_rules import Signal


@click.command(
    "tail",
    short_help="read the messages of a room",
    epilog=examples("unibus tail ops", "unibus --json tail ops --since 17.0 --count 100"),
)
@click.argument("room")
@click.option("--since", default="now", show_default=True, help="start, now, or a position such as 17.0 to go on after")
@click.option("--count", type=click.IntRange(min=1), help="end after so many messages")
@click.option("--no-follow", is_flag=True, help="end when all that is stored was shown")
@click.option("--signals", is_flag=True, help="show what is sent by unibus signal, which is not stored, instead")
@pass_shared
def command(shared: Shared, room: str, since: str, count: int | None, no_follow: bool, signals: bool) -> None:
    """Show the messages of ROOM as they come, each verified. Ctrl-C ends it.

    A day other than today has a line of its own before its first message.
    """
    if signals and (since != "now" or no_follow):
        raise click.UsageError(f"signals are not stored: leave {'--no-follow' if no_follow else '--since'} away")
    if no_follow and since == "now":
        raise click.UsageError("nothing is stored after now: say where to begin, such as --since start")

    async def work() -> None:
        from unibus.client.messages import parse_position

        seen, day = 0, datetime.now().astimezone().date()
        begin = since if since in {"start", "now"} else parse_position(since)
        async with shared.bus() as bus:
            found = await bus.room(room)
            coming: AsyncGenerator[Message | Signal, None] = (
                found.signals(on_refused=_refused)
                if signals
                else found.messages(begin, follow=not no_follow, on_refused=_refused)  # type: ignore[arg-type]  # one of two words, or a position; read only
            )
            async with aclosing(coming) as messages:
                async for message in messages:
                    if not shared.json and (sent := message.sent_at.astimezone().date()) != day:
                        say(str(day := sent))
                    show(message, as_json=shared.json)
                    seen += 1
                    if seen == count:
                        return

    run(while_read(work))


def show(message: "Message | Signal", *, as_json: bool) -> None:
    """One message or signal as a line."""
    if not as_json:
        say(f"{message.sent_at.astimezone():%H:%M:%S}  {message.handle}  {printable(message.text)}")
        return
    position = getattr(message, "position", None)  # a signal stands nowhere
    facts = {
        "position": position and str(position),
        "sent_at": message.sent_at.isoformat(),
        "handle": message.handle,
        "sender": message.sender,
    }
    try:
        emit({**facts, "text": message.data.decode()})
    except UnicodeDecodeError:
        emit({**facts, "base64": base64.b64encode(message.data).decode()})


def _refused(refusal: "Refusal") -> None:
    what = refusal.what if refusal.sequence else "refused a signal"
    note(f"{what}: {printable(refusal.error.message)} ({refusal.error.code})")
