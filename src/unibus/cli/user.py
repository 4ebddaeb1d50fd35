"""`unibus user`: who is on the bus."""

import sys
from pathlib import Path

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.invite import invite, invites, withdraw
from unibus.cli.output import columns, emit, examples, say
from unibus.errors import InvalidInput


@click.group("user", short_help="who is on the bus")
def command() -> None:
    """Who is on the bus."""


def _card_text(card: str) -> str:
    """The card in the argument: itself, or a file's content, or standard input's for `-`."""
    if card.count(".") == 2 and "/" not in card and len(card) > 255:
        return card
    try:
        text = sys.stdin.read(8192) if card == "-" else Path(card).read_text()[:8192]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{card!r} is neither a card nor a file with one: it is what unibus identity show --card prints"
        ) from error
    return text.strip()


@command.command("add", short_help="let an identity onto the bus", epilog=examples("unibus user add bob bob.card"))
@click.argument("handle")
@click.argument("card")
@click.option("--role", type=click.Choice(["member", "admin"]), default="member", show_default=True)
@pass_shared
def add(shared: Shared, handle: str, card: str, role: str) -> None:
    """Let an identity onto the bus as HANDLE. CARD is its card, a file with it, or - for standard input."""
    text = _card_text(card)

    async def work() -> dict[str, str]:
        from unibus.crypto.identity import read_card

        user = read_card(text).user
        async with shared.bus() as bus:
            await bus.admit(handle, text, "admin" if role == "admin" else "member")
            return {"handle": handle, "user": user, "role": role, "bus": bus.id}

    done = run(work())
    shared.tell(
        done,
        f"{handle} is on the bus, as {role}",
        f"  user  {done['user']}",
        f"  bus   {done['bus']}, for {handle} to compare at the first contact",
    )


@command.command("list", short_help="all users")
@pass_shared
def list_users(shared: Shared) -> None:
    """All users, by handle."""

    async def work() -> list[dict[str, str]]:
        async with shared.bus() as bus:
            return [{"handle": u.handle, "role": u.role, "user": u.user} for u in await bus.users()]

    users = run(work())
    if shared.json:
        for user in users:
            emit(user)
    else:
        for line in columns(["handle", "role", "user"], (list(user.values()) for user in users)):
            say(line)


@command.command("revoke", short_help="take a user off the bus, now")
@click.argument("handle")
@pass_shared
def revoke(shared: Shared, handle: str) -> None:
    """Take a user off the bus, now and for good. Their connections are cut; their handle can be given anew."""

    async def work() -> None:
        async with shared.bus() as bus:
            await bus.revoke(handle)

    run(work())
    shared.tell(
        {"revoked": handle},
        f"{handle} is off the bus; each room they were in changes its key before the next message",
    )


@command.command("show", short_help="one user")
@click.argument("handle")
@pass_shared
def show(shared: Shared, handle: str) -> None:
    """One user, from the verified directory."""

    async def work() -> dict[str, str]:
        async with shared.bus() as bus:
            found = bus.find(handle)
            return {"handle": found.handle, "role": found.role, "user": found.user}

    found = run(work())
    if shared.json:
        emit(found)
    else:
        for key, value in found.items():
            say(f"{key:6}  {value}")


@command.command("role", short_help="make a user an admin or a member", epilog=examples("unibus user role bob admin"))
@click.argument("handle")
@click.argument("role", type=click.Choice(["admin", "member"]))
@pass_shared
def role(shared: Shared, handle: str, role: str) -> None:
    """Make a user an admin or a plain member."""

    async def work() -> None:
        async with shared.bus() as bus:
            await bus.change_role(handle, "admin" if role == "admin" else "member")

    run(work())
    shared.tell({"handle": handle, "role": role}, f"{handle} is now {role}")


@command.command("rename", short_help="change a handle", epilog=examples("unibus user rename bob robert"))
@click.argument("handle")
@click.argument("new")
@pass_shared
def rename(shared: Shared, handle: str, new: str) -> None:
    """Change a user's handle: your own, or as an admin anybody's."""

    async def work() -> None:
        async with shared.bus() as bus:
            await bus.rename(handle, new)

    run(work())
    shared.tell({"handle": new, "was": handle}, f"{handle} is now {new}")


for part in (invite, invites, withdraw):
    command.add_command(part)
