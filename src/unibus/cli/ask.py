"""`unibus ask`: a question to one member of a room, and the answer of the program that speaks for them."""

import base64
import os

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import emit, examples, printable, say


@click.command("ask", short_help="ask one member of a room", epilog=examples('unibus ask ops bob "are you there?"'))
@click.argument("room")
@click.argument("handle")
@click.argument("text", nargs=-1, required=True)
@click.option("--deadline", type=click.FloatRange(min=0.1, max=3600), default=5.0, show_default=True, help="in seconds")
@pass_shared
def command(shared: Shared, room: str, handle: str, text: tuple[str, ...], deadline: float) -> None:
    """Ask TEXT of the member HANDLE of ROOM, and show the answer. Nobody else hears it, and nothing is stored."""

    async def work() -> bytes:
        async with shared.bus() as bus:
            found = await bus.room(room)
            return await found.ask(handle, os.fsencode(" ".join(text)), deadline)

    answer = run(work())
    if not shared.json:
        say(printable(answer.decode(errors="replace")))
        return
    try:
        emit({"handle": handle, "text": answer.decode()})
    except UnicodeDecodeError:
        emit({"handle": handle, "base64": base64.b64encode(answer).decode()})
