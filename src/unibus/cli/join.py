"""`unibus join`: come onto a bus by an invite, with keys made here."""

import sys

import click

from unibus.cli.context import Shared, deadline_for, pass_shared, run
from unibus.cli.output import examples


@click.command("join", short_help="come onto a bus by an invite", epilog=examples("unibus join unibus1.… --handle cyd"))
@click.argument("token")
@click.option("--handle", help="what you are called on the bus, unless the invite says it")
@click.option(
    "--at", "url", metavar="URL", help="the daemon's address, if it is another one for you than in the invite"
)
@pass_shared
def command(shared: Shared, token: str, handle: str | None, url: str | None) -> None:
    """Come onto a bus by TOKEN, or - to read it from standard input. Makes an identity if you have none."""
    from unibus.client.identity_file import new_identity
    from unibus.client.joining import join_bus
    from unibus.crypto.invites import read_token

    invite = read_token(sys.stdin.read(4096) if token == "-" else token)  # noqa: S105 - the word for standard input
    identity = shared.identity() if shared.identity_path.exists() else new_identity(shared.identity_path)
    address = url or invite.url
    deadline = deadline_for(address)
    joining = join_bus(invite, identity, handle, url=url, state=shared.state_path, deadline=deadline, tls=shared.tls)
    joined = run(joining)
    shared.tell(
        {"bus": invite.bus, "user": identity.user, "handle": joined, "url": address},
        f"you are {joined} on bus {invite.bus}",
        f"  identity  {shared.identity_path}",
        f"  next      unibus --url {address} room list",
    )
