"""`unibus cluster nodes|certs|env`: check `nodes.env`, and make certificates and settings from it."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from click.decorators import pass_meta_key

from unibus.cli.context import Shared, pass_shared
from unibus.cli.output import columns, note, printable

pass_base = pass_meta_key("unibus.cluster", doc_description="the directory of the cluster's material")


@click.command("nodes", short_help="check nodes.env")
@pass_base
@pass_shared
def nodes(shared: Shared, base: Path) -> None:
    """Check nodes.env and show what it says. Exits with 1 when it does not hold."""
    from unibus.cluster.material import read_cluster

    cluster = read_cluster(base)
    warn(cluster.warnings)
    rows = [(node.name, str(node.public), str(node.wireguard), node.user, str(node.path)) for node in cluster.nodes]
    head = ("node", "public", "wireguard", "user", "path")
    ports = {"http": cluster.http_port, "nats": cluster.nats_port, "routes": cluster.route_port}
    told = [dict(zip(map(str.lower, head), row, strict=True)) for row in rows]
    shared.tell(
        {"cluster": cluster.name, **ports, "replicas": cluster.replicas, "nodes": told, "warnings": cluster.warnings},
        *columns(head, rows),
        f"cluster {cluster.name}: {', '.join(f'{plane} {port}' for plane, port in ports.items())}; "
        f"each record on {cluster.replicas} of {len(rows)} nodes",
    )


@click.command("certs", short_help="make or renew the certificates")
@click.option("--renew", is_flag=True, help="new certificates for the nodes; their keys and both authorities stay")
@click.option(
    "--force", is_flag=True, help="a new route authority, and new keys for the nodes; the client authority stays"
)
@click.option("--check", is_flag=True, help="make nothing; show what ends when. exits with 1 when something is amiss")
@pass_base
@pass_shared
@click.pass_context
def certs(context: click.Context, shared: Shared, base: Path, *, renew: bool, force: bool, check: bool) -> None:
    """Make a route authority, and for each node a route and a server certificate.

    Server certificates are signed by the client authority in tls/, which is made when there is none. What is there is
    kept.
    """
    from unibus.cluster.certs import How
    from unibus.cluster.material import check_certs, make_certs

    if renew + force + check > 1:
        raise click.UsageError("--renew, --force and --check exclude each other")
    if check:
        rows = check_certs(base, now=time.time())
        cells = [(row.what, "-" if row.ends is None else _day(row.ends), row.trouble or "ok") for row in rows]
        told = [{"what": row.what, "ends": row.ends, "trouble": row.trouble or None} for row in rows]
        shared.tell(told, *columns(("WHAT", "ENDS", "STATE"), cells))
        context.exit(1 if any(row.trouble for row in rows) else 0)
    how = How.RENEW if renew else How.FORCE if force else How.KEEP
    _told(shared, base, make_certs(base, how, now=time.time(), random=os.urandom))


@click.command("env", short_help="make each node's cluster.env, and the cluster's secret")
@click.option("--new-secret", is_flag=True, help="replace the cluster's secret")
@pass_base
@pass_shared
def env(shared: Shared, base: Path, *, new_secret: bool) -> None:
    """Make each node's cluster.env from nodes.env, and the cluster's secret in a file of its own when there is none."""
    from unibus.cluster.material import make_settings, read_cluster

    warn(read_cluster(base).warnings)
    _told(shared, base, make_settings(base, new_secret=new_secret, random=os.urandom))


def _told(shared: Shared, base: Path, written: list[str]) -> None:
    lines = [f"wrote {printable(str(base / name))}" for name in written]
    shared.tell({"written": [str(base / name) for name in written]}, *(lines or ["all is there; nothing to do"]))


def warn(warnings: tuple[str, ...]) -> None:
    """Show what is allowed and still worth a thought."""
    for warning in warnings:
        note(f"warning: {printable(warning)}")


def _day(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
