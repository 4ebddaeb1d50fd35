"""`unibus backup`: the whole bus in one file, made while it runs."""

from pathlib import Path

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import examples, printable
from unibus.cli.progress import stages


@click.command(
    "backup",
    short_help="the whole bus in one file, made while it runs",
    epilog=examples('unibus backup "bus-$(date +%F).backup"'),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@pass_shared
def command(shared: Shared, file: Path) -> None:
    """Fetch a backup of the whole bus into the new FILE, signed by your identity. For admins.

    It holds no identities: those stay with the people whose they are.
    """
    from unibus.client.backup import fetch_backup

    async def work() -> tuple[str, int]:
        async with shared.bus() as bus:
            with stages() as progress:
                progress("waiting for the node", 0, None)
                return bus.id, await fetch_backup(bus, file, lambda done, of: progress("fetching", done, of))

    bus, size = run(work())
    shared.tell({"bus": bus, "path": str(file), "bytes": size}, f"wrote {printable(str(file))}, {size} bytes")
