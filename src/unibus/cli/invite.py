"""`unibus user invite` and what goes with it: tokens that one person hands to another."""

import io
import re
import sys
from datetime import UTC, datetime

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import columns, emit, examples, say
from unibus.errors import InvalidInput

_UNITS = {"m": 60, "h": 3600, "d": 86400}


def parse_duration(text: str) -> int:
    """Seconds of a duration such as 30m, 1h or 7d. Raises InvalidInput."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if match is None:
        raise InvalidInput(f"a duration is a number and m, h or d, such as 30m, 1h or 7d, not {text!r}")
    return int(match[1]) * _UNITS[match[2]]


@click.command(
    "invite",
    short_help="a token that lets somebody in, once",
    epilog=examples(
        "unibus user invite --handle cyd --expires 7d", "unibus user invite --at https://bus.example:8470 --qr"
    ),
)
@click.option("--role", type=click.Choice(["member", "admin"]), default="member", show_default=True)
@click.option("--handle", help="fix the newcomer's handle")
@click.option("--expires", default="1h", show_default=True, metavar="DURATION", help="30m, 1h, 7d …")
@click.option("--at", "url", metavar="URL", help="the daemon's address as the newcomer sees it, if not --url")
@click.option("--qr", is_flag=True, help="show the token as a QR code too")
@pass_shared
def invite(shared: Shared, role: str, handle: str | None, expires: str, url: str | None, qr: bool) -> None:
    """Print a token that lets whoever has it onto the bus, once. Pass it on as you would a password."""
    seconds = parse_duration(expires)

    async def work() -> tuple[str, str]:
        async with shared.bus() as bus:
            made = await bus.invite("admin" if role == "admin" else "member", seconds=seconds, handle=handle, url=url)
            return made.text, made.key.public

    token, key = run(work())
    if shared.json:
        emit({"token": token, "invite": key, "role": role, "seconds": seconds})
        return
    say(f"unibus join {token}")
    if qr:
        import segno

        code = segno.make(token, error="m")
        shown = io.StringIO()
        code.terminal(shown, compact=True)
        try:
            shown.getvalue().encode(sys.stdout.encoding)
        except UnicodeEncodeError:  # no half blocks here: colours do as well, and take twice the room
            shown = io.StringIO()
            code.terminal(shown)
        click.echo(shown.getvalue().rstrip("\n"), color=True)


@click.command("invites", short_help="all invites, and what became of them")
@pass_shared
def invites(shared: Shared) -> None:
    """All invites, and what became of them."""

    async def work() -> list[dict[str, str]]:
        async with shared.bus() as bus:
            directory = bus.directory
            now = datetime.now(UTC)
            rows = []
            for found in directory.invites.values():
                until = datetime.fromtimestamp(found.expires, UTC)
                if found.used:
                    state = f"used by {directory.handle_of(found.used)}"
                elif found.withdrawn or not directory.is_admin(found.inviter):
                    state = "withdrawn"
                else:
                    state = "expired" if until < now else f"until {until:%Y-%m-%d %H:%M} utc"
                inviter = directory.handle_of(found.inviter)
                rows.append({"state": state, "role": found.role, "by": inviter, "invite": found.invite})
            return rows

    rows = run(work())
    if shared.json:
        for row in rows:
            emit(row)
    else:
        for line in columns(["state", "role", "by", "invite"], (list(row.values()) for row in rows)):
            say(line)


@click.command("withdraw", short_help="take an invite back")
@click.argument("invite")
@pass_shared
def withdraw(shared: Shared, invite: str) -> None:
    """Take back an invite that nobody has used: INVITE is its public key, of unibus user invites."""

    async def work() -> None:
        async with shared.bus() as bus:
            await bus.withdraw_invite(invite)

    run(work())
    shared.tell({"withdrawn": invite}, "the invite is good for nothing now")
