"""`unibus signal`: what is not stored, to whoever is in a room and listens now."""

import os

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import emit, examples, say


@click.command("signal", short_help="send what is not stored", epilog=examples('unibus signal ops "bob is typing"'))
@click.argument("room")
@click.argument("text", nargs=-1, required=True)
@pass_shared
def command(shared: Shared, room: str, text: tuple[str, ...]) -> None:
    """Send TEXT to the members of ROOM who listen now, as in unibus tail --signals. Nobody sees it later."""

    async def work() -> None:
        async with shared.bus() as bus:
            found = await bus.room(room)
            await found.signal(os.fsencode(" ".join(text)))

    run(work())
    if shared.json:
        emit({"room": room})
    else:
        say("sent, to who listens")
