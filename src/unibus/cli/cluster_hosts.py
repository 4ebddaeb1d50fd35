"""`unibus cluster bundle|deploy|roll`: what touches other hosts, and only with --yes.

Every step that changes a host is shown with the word HUMAN and its command, before it is run or instead.
"""

import shlex
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unibus.cli.cluster_make import pass_base, warn
from unibus.cli.context import Shared, pass_shared
from unibus.cli.output import examples, note, printable
from unibus.errors import Forbidden, Unreachable

if TYPE_CHECKING:
    from unibus.cluster.health import NodeHealth
    from unibus.cluster.nodes import Cluster, ClusterNode
    from unibus.cluster.remote import Ssh
    from unibus.cluster.rolling import Restart, Start

_LOOK_EVERY = 1.0
_ssh_config = click.option(
    "--ssh-config", type=click.Path(path_type=Path, dir_okay=False, exists=True), help="another file than ssh's own"
)
_yes = click.option("--yes", is_flag=True, help="do it; without, what would be done is shown and nothing is changed")


@click.command("bundle", short_help="build what nodes install from")
@click.option("--checkout", type=click.Path(path_type=Path, file_okay=False), help="where unibus's source is")
@pass_base
@pass_shared
def bundle(shared: Shared, base: Path, checkout: Path | None) -> None:
    """Build the bundle: wheels of unibus and of all it needs, fetched from the registry as requirements.lock says."""
    name = _build(base, checkout)
    shared.tell({"bundle": name}, f"bundle {name} in {printable(str(base / 'cluster' / 'build' / 'bundle'))}")


@click.command(
    "deploy",
    short_help="install on the nodes; starts nothing",
    epilog=examples("unibus cluster deploy", "unibus cluster deploy --yes"),
)
@click.option("--node", "only", multiple=True, metavar="NAME", help="this node only; may be given several times")
@click.option("--cluster-is-stopped", "stopped", is_flag=True, help="all nodes are stopped on purpose")
@click.option("--checkout", type=click.Path(path_type=Path, file_okay=False), help="where unibus's source is")
@_ssh_config
@_yes
@pass_base
@pass_shared
def deploy(
    shared: Shared,
    base: Path,
    *,
    only: tuple[str, ...],
    stopped: bool,
    checkout: Path | None,
    ssh_config: Path | None,
    yes: bool,
) -> None:
    """Show what every node lacks of the bundle and of its material; with --yes send and install it. Starts nothing."""
    from unibus.cluster import layout, remote
    from unibus.cluster.deployment import plan
    from unibus.cluster.material import read_cluster
    from unibus.cluster.staging import holding

    cluster, ssh = read_cluster(base), remote.Ssh(ssh_config)
    _check_names(only, cluster)
    warn(cluster.warnings)
    for node in cluster.nodes:
        remote.files(base, node)  # what was not made yet is told before the bundle takes its time
    _build(base, checkout)
    with holding(base, base / layout.SECRETS):
        here = remote.local(base, cluster)
        facts, silent = remote.look(cluster, ssh, remote.run)
        for name, why in silent.items():
            note(f"{name}: {printable(why)}")
        steps = plan(cluster, here, facts, _health(base, cluster), only=only, stopped=stopped)
        for step in steps:
            with remote.gathered(base, step.node) if yes else nullcontext(base / layout.SECRETS / "…") as files:
                command = remote.commands(step, base, here.bundle, files, ssh)
                _tell(shared, step.node, f"{step.what} {', '.join(step.names)}".strip(), command)
                if yes:
                    remote.run(command, "")
    if not steps:
        note("every node has all of it; nothing to do")
    elif yes:
        note("installed. nothing was started: unibus cluster roll does that, a node at a time")
    else:
        note("nothing was changed: --yes does this")


@click.command("roll", short_help="start or restart the nodes, one at a time")
@click.option("--all", "everyone", is_flag=True, help="restart also who runs what is installed already")
@click.option(
    "--new-secret", is_flag=True, help="the cluster's secret is another: writes pause while a majority takes it"
)
@click.option(
    "--patience", default=120, show_default=True, type=click.IntRange(min=1), help="seconds to wait for a node"
)
@_ssh_config
@_yes
@pass_base
@pass_shared
def roll(
    shared: Shared,
    base: Path,
    *,
    everyone: bool,
    new_secret: bool,
    patience: int,
    ssh_config: Path | None,
    yes: bool,
) -> None:
    """Start nodes that are stopped, then restart nodes that run something older than what is installed.

    One at a time; the next only when the one before is well and the cluster has its quorum.
    """
    from unibus.cluster import remote, rolling
    from unibus.cluster.material import read_cluster

    cluster, ssh = read_cluster(base), remote.Ssh(ssh_config)
    done: list[str] = []
    until = time.monotonic() + patience
    while True:
        facts, silent = remote.look(cluster, ssh, remote.run)
        if silent:
            raise Unreachable("; ".join(f"{name}: {why}" for name, why in silent.items()))
        health = _health(base, cluster)
        match rolling.next_action(cluster, facts, health, done, everyone=everyone, new_secret=new_secret):
            case rolling.Refuse(reason):
                raise Forbidden(reason)
            case rolling.Finished():
                note("every node runs what is installed")
                return
            case rolling.Wait(reason):
                if time.monotonic() > until:
                    raise Unreachable(f"{reason}; waited {patience} s, and went no further")
                time.sleep(_LOOK_EVERY)
            case (rolling.Start() | rolling.Restart()) as action if yes:
                _act(shared, cluster, action, ssh, lambda command: remote.run(command, ""))
                done.append(action.node)
                until = time.monotonic() + patience
            case _:
                for action in rolling.outline(cluster, facts, everyone=everyone, new_secret=new_secret):
                    _act(shared, cluster, action, ssh, None)
                note("nothing was changed: --yes does this, waiting for each node to be well before the next")
                return


def _act(
    shared: Shared,
    cluster: "Cluster",
    action: "Start | Restart",
    ssh: "Ssh",
    run: Callable[[list[str]], object] | None,
) -> None:
    from unibus.cluster.remote import service

    (node,) = (node for node in cluster.nodes if node.name == action.node)
    command = service(action, node, ssh)
    _tell(shared, node, type(action).__name__.lower(), command)
    if run is not None:
        run(command)


def _tell(shared: Shared, node: "ClusterNode", what: str, command: list[str]) -> None:
    value = {"node": node.name, "step": what, "command": command}
    shared.tell(value, f"HUMAN  {node.name}: {printable(what)}", f"       {printable(shlex.join(command))}")


def _health(base: Path, cluster: "Cluster") -> "dict[str, NodeHealth]":
    from unibus.cluster.health import ask
    from unibus.cluster.layout import CLIENT_AUTHORITY

    return {node.name: ask(cluster, node, base / CLIENT_AUTHORITY.certificate) for node in cluster.nodes}


def _build(base: Path, checkout: Path | None) -> str:
    from unibus.cluster.bundle import build
    from unibus.cluster.layout import BUNDLE

    return build((checkout or base.resolve().parent).resolve(), base / BUNDLE, note)


def _check_names(only: tuple[str, ...], cluster: "Cluster") -> None:
    if unknown := set(only) - {node.name for node in cluster.nodes}:
        raise click.UsageError(f"nodes.env has no node {', '.join(sorted(unknown))}")
