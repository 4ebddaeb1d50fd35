"""`unibus migrate-to-kv`: the bus in a data directory moved into a cluster, on the host of its stopped node."""

import os
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.init import read_token
from unibus.cli.output import examples, printable
from unibus.cli.progress import stages

if TYPE_CHECKING:
    from unibus.client.moving import Outcome


@click.command(
    "migrate-to-kv",
    short_help="move a bus from one node into a cluster",
    epilog=examples(
        "unibus --ca authority.pem migrate-to-kv https://n1.example:8470 \\",
        "    --from /var/lib/unibus --token-file n1-token --dry-run",
    ),
)
@click.argument("url", required=False)
@click.option(
    "--from",
    "data_dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="the data directory of the node that the bus is moved from; its daemon must be stopped",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=lambda: Path("local_files") / "bootstrap-token",
    show_default="local_files/bootstrap-token",
    help="the new node's one-time token, in its data directory; - reads it from standard input",
)
@click.option("--dry-run", is_flag=True, help="verify everything and look at the new node, but change nothing")
@click.option(
    "--nats-server",
    envvar="UNIBUS_NATS_SERVER",
    show_envvar=True,
    type=click.Path(path_type=Path),
    help="another nats-server binary than the one installed with unibus",
)
@pass_shared
def command(
    shared: Shared, url: str | None, data_dir: Path, token_file: Path, dry_run: bool, nats_server: Path | None
) -> None:
    """Move the bus of a node that is alone to the cluster of the node at URL, which must not have a bus.

    Records, keys, messages and blobs are verified one by one on both ends, and keep their numbers: members go on where
    they are, at the new address. Whatever breaks this off, repeat it. The old data directory stays as it is, but no
    daemon starts on it any more.
    """
    from unibus.client.move_target import reach_target, target_url
    from unibus.client.moving import move
    from unibus.daemon.moving import open_source

    token = cache(lambda: read_token(token_file))  # standard input can be read once
    node = target_url(url or shared.url, shared.ca)

    async def work() -> "tuple[str, Outcome]":
        async with (
            open_source(data_dir, nats_server=nats_server, clock=time.time, random=os.urandom) as source,
            reach_target(node, token, shared.tls) as target,
        ):
            with stages() as progress:
                return source.bus, await move(source, target, progress, dry_run=dry_run)

    bus, outcome = run(work())
    to, found = str(node).rstrip("/"), outcome.totals
    if found is None:
        shared.tell({"bus": bus, "to": to, "already": True}, f"bus {bus} is at {to} already: nothing is left to do")
        return
    facts = {
        "logs": found.logs,
        "records": found.records,
        "messages": found.messages,
        "message_bytes": found.message_bytes,
        "blobs": found.blobs,
        "blob_bytes": found.blob_bytes,
    }
    begun = "half of it is there: repeat without --dry-run" if outcome.resumed else "there is no bus: it can be moved"
    done = begun if dry_run else f"{printable(str(data_dir))} stays as a copy; no daemon starts on it"
    shared.tell(
        {"bus": bus, "to": to, "already": False, "dry_run": dry_run, "resumed": outcome.resumed, **facts},
        f"{'would move' if dry_run else 'moved'} bus {bus} to {to}",
        f"  records  {found.records} in {found.logs} logs",
        f"  frames   {found.messages}, {found.message_bytes} bytes",
        f"  blobs    {found.blobs}, {found.blob_bytes} bytes",
        f"  {done}",
    )
