"""`unibus init`: found a bus, as its first admin."""

import sys
from pathlib import Path

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import examples
from unibus.errors import KeyCustody


def read_token(path: Path) -> str:
    """The bootstrap token in the file `path`, or on standard input for `-`. Raises KeyCustody."""
    try:
        token = (sys.stdin.read(1024) if str(path) == "-" else path.read_text()[:1024]).strip()
    except (OSError, UnicodeDecodeError) as error:
        why = "permission denied; " if isinstance(error, PermissionError) else ""
        raise KeyCustody(
            f"cannot read the bootstrap token {path}: {why}the daemon keeps it in its data directory until the bus has "
            "its first admin; name it with --token-file"
        ) from error
    if not token:
        raise KeyCustody(f"the bootstrap token in {path} is empty")
    return token


@click.command(
    "init",
    short_help="become the first admin of a new bus",
    epilog=examples("unibus init alice", "unibus init alice --token-file /var/lib/unibus/bootstrap-token"),
)
@click.argument("handle")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    default=lambda: Path("local_files") / "bootstrap-token",
    show_default="local_files/bootstrap-token",
    help="the daemon's one-time token, in its data directory; - reads it from standard input",
)
@pass_shared
def command(shared: Shared, handle: str, token_file: Path) -> None:
    """Become the first admin of a new bus, as HANDLE. Makes an identity if you have none."""
    from unibus.client.founding import found_bus
    from unibus.client.identity_file import new_identity
    from unibus.model.names import check_handle

    check_handle(handle)
    token = read_token(token_file)
    identity = shared.identity() if shared.identity_path.exists() else new_identity(shared.identity_path)
    founding = found_bus(
        shared.url, identity, token, handle, state=shared.state_path, deadline=shared.deadline, tls=shared.tls
    )
    bus = run(founding)
    shared.tell(
        {"bus": bus, "user": identity.user, "handle": handle, "identity": str(shared.identity_path)},
        f"you are {handle}, the first admin of bus {bus}",
        f"  identity  {shared.identity_path}",
        "  next      unibus user add HANDLE CARD, unibus room create NAME",
    )
