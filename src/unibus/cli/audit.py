"""`unibus audit`: who did what to whom, from where, with what outcome, as the node noted it."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run, while_read
from unibus.cli.output import emit, examples, printable, say

if TYPE_CHECKING:
    from unibus.model.directory import Directory
    from unibus.model.wire import AuditEntry

WAIT = 3  # seconds that one request waits for news


@click.command(
    "audit",
    short_help="who did what, and what was refused",
    epilog=examples("unibus audit --follow", "unibus --json audit --since 1000"),
)
@click.option("--since", type=click.IntRange(min=0), default=0, show_default=True, metavar="N", help="after entry N")
@click.option("--follow", "-f", is_flag=True, help="go on with what comes; ctrl-c ends it")
@pass_shared
def command(shared: Shared, since: int, follow: bool) -> None:
    """Show the node's audit trail. For admins."""

    async def work() -> None:
        after = since
        async with shared.bus() as bus:
            while True:
                page = await bus.api.audit(after, WAIT if follow else 0)
                for entry in page.entries:
                    after = entry.number
                    if shared.json:
                        emit(entry.model_dump())
                    else:
                        say(line(entry, bus.directory))
                if not page.entries and not follow:
                    return

    run(while_read(work))


def line(entry: "AuditEntry", directory: "Directory") -> str:
    """One entry as a line; people by their handles where the directory knows them."""
    when = datetime.fromtimestamp(entry.at).astimezone()
    who = directory.handle_of(entry.actor) if entry.actor != "-" else "-"
    target = f" {directory.handle_of(entry.target)}" if entry.target else ""
    facts = ", ".join(f"{name} {value}" for name, value in entry.facts.items())
    text = f"{entry.number:6}  {when:%Y-%m-%d %H:%M:%S}  {entry.outcome:7}  {who:12}  {entry.action}{target}  {facts}"
    return printable(f"{text}  from {entry.origin}")
