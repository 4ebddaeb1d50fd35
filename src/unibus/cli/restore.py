"""`unibus restore`: a bus put back from a backup, on the host, while no daemon runs on its directory."""

import shlex
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import emit, examples, say
from unibus.cli.progress import stages


@click.command(
    "restore",
    short_help="put a bus back from a backup",
    epilog=examples("unibus restore bus.backup --data-dir /var/lib/unibus"),
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--data-dir",
    envvar="UNIBUS_DATA_DIR",
    show_envvar=True,
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="the data directory to make; it must not hold a bus",
)
@click.option(
    "--nats-server",
    envvar="UNIBUS_NATS_SERVER",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="another nats-server binary than the one installed with unibus",
)
@pass_shared
def command(shared: Shared, file: Path, data_dir: Path, nats_server: Path | None) -> None:
    """Put the bus in FILE into a new data directory, on the host itself.

    Everything in FILE is verified before any of it is used; the directory stays as it was if anything does not hold.
    """
    from unibus.daemon.restore import restore

    with stages() as progress:
        found = run(restore(file, data_dir, nats_server=nats_server, clock=time.time, progress=progress))
    made = datetime.fromtimestamp(found.at, UTC).astimezone()
    if shared.json:
        emit(
            {
                "bus": found.bus,
                "made_at": made.isoformat(),
                "made_by": found.user,
                "handle": found.handle,
                "rooms": found.rooms,
                "records": found.records,
                "messages": found.messages,
                "blobs": found.blobs,
                "data_dir": str(data_dir),
            }
        )
        return
    say(f"restored bus {found.bus}")
    say(f"  backup   {made:%Y-%m-%d %H:%M}, made by {found.handle} ({found.user})")
    say(f"  rooms    {found.rooms}")
    say(f"  records  {found.records}")
    say(f"  frames   {found.messages}")
    say(f"  blobs    {found.blobs}")
    say("compare bus and maker with what you know, then start it; it takes requests from a minute after this on:")
    say(f"  unibus-membershipd --data-dir {shlex.quote(str(data_dir))}")
