"""`unibus nats-config`: what a nats-server of somebody else's needs, to be used with `--nats-url`."""

import os
from pathlib import Path

import click

from unibus.cli.context import Shared, pass_shared
from unibus.cli.output import examples


@click.command(
    "nats-config",
    short_help="what an external nats-server needs in its configuration",
    epilog=examples("unibus nats-config --data-dir /var/lib/unibus > unibus.conf"),
)
@click.option(
    "--data-dir",
    envvar="UNIBUS_DATA_DIR",
    show_envvar=True,
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("local_files"),
    show_default=True,
    help="the daemon's data directory, which keeps the secret halves of the keys",
)
@pass_shared
def command(shared: Shared, data_dir: Path) -> None:
    """Print the configuration for a nats-server that the daemon does not run itself, for --nats-url.

    Run it on the daemon's host, as the daemon's user. What is printed holds public keys only; the secret halves are
    made at the first run, and stay in the data directory.
    """
    from unibus.bus.external_config import render
    from unibus.bus.options import BusOptions
    from unibus.daemon.bus_keys import bus_keys
    from unibus.daemon.data_dir import make_private

    make_private(data_dir)
    text = render(bus_keys(data_dir, os.urandom), BusOptions(data_dir).max_payload)
    shared.tell({"config": text}, text.rstrip("\n"))
