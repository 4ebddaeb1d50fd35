"""`unibus cluster`: a cluster's material, made on the operator's machine, and what is done with it on other hosts."""

from pathlib import Path

import click

from unibus.cli.cluster_care import remove, scale
from unibus.cli.cluster_hosts import bundle, deploy, roll
from unibus.cli.cluster_local import local
from unibus.cli.cluster_make import certs, env, nodes
from unibus.cli.demo_cluster import demo


@click.group("cluster", short_help="make, deploy and roll a cluster of nodes")
@click.option(
    "--dir",
    "base",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("deploy"),
    show_default=True,
    help="the directory that holds cluster/nodes.env, and tls/",
)
@click.pass_context
def command(context: click.Context, base: Path) -> None:
    """Make, deploy and roll a cluster of nodes, as cluster/nodes.env names them, or try one on this machine."""
    context.meta["unibus.cluster"] = base


for part in (nodes, certs, env, bundle, deploy, roll, scale, remove, local, demo):
    command.add_command(part)
