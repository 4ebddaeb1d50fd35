"""`unibus identity`: make, show and carry the identity that everything else acts as."""

import click

from unibus.cli.context import Shared, pass_shared
from unibus.cli.identity_care import export, fingerprint, import_
from unibus.cli.output import emit, say


@click.group("identity", short_help="make, show, carry or compare your identity")
def command() -> None:
    """Make, show, carry or compare your identity."""


@command.command("new", short_help="make an identity")
@pass_shared
def new(shared: Shared) -> None:
    """Make an identity in a file that only you can read. An identity that is there is never overwritten."""
    from unibus.client.identity_file import new_identity

    identity = new_identity(shared.identity_path)
    shared.tell(
        {"user": identity.user, "path": str(shared.identity_path)},
        f"made {identity.user}",
        f"  in {shared.identity_path}, which is all there is of it: keep a copy in a safe place",
    )


@command.command("show", short_help="your public key, or your card for an admin")
@click.option("--card", "what", flag_value="card", help="the card to give to an admin; holds no secret")
@click.option("--seed", "what", flag_value="seed", help="the secret seed: whoever has it is you")
@pass_shared
def show(shared: Shared, what: str | None) -> None:
    """Show your identity: its public key, or with --card the card that an admin admits you by."""
    from unibus.client.memory import Memory

    identity = shared.identity()
    if what == "card":
        shared.tell({"card": identity.card()}, identity.card())
    elif what == "seed":
        shared.tell({"seed": identity.seed}, identity.seed)
    elif shared.json:
        emit({"user": identity.user, "path": str(shared.identity_path), "bus": Memory(shared.state_path).bus})
    else:
        say(f"user  {identity.user}")
        say(f"file  {shared.identity_path}")
        say(f"bus   {Memory(shared.state_path).bus or 'none yet'}")


for part in (export, import_, fingerprint):
    command.add_command(part)
