"""`unibus room leave|role|rename|rotate|retain|archive|purge`: what changes a room besides who comes and goes."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.invite import parse_duration
from unibus.cli.output import examples
from unibus.model.names import check_room_id
from unibus.model.sizes import parse_size

if TYPE_CHECKING:
    from unibus.client.room import Room
    from unibus.model.bodies import RoomRole

same_name = click.option("--same-name", is_flag=True, help="although you are in a room that is called so")


def _change(shared: Shared, room: str, change: "Callable[[Room], Awaitable[None]]", text: str) -> None:
    async def work() -> None:
        async with shared.bus() as bus:
            await change(await bus.room(room))

    run(work())
    shared.tell({"room": room, "done": text}, text)


@click.command("leave", short_help="leave a room", epilog=examples("unibus room leave ops --successor bob"))
@click.argument("room")
@click.option("--successor", metavar="HANDLE", help="who becomes owner, if you are the last one")
@pass_shared
def leave(shared: Shared, room: str, successor: str | None) -> None:
    """Leave a room. Its key changes before the next message."""
    _change(shared, room, lambda found: found.leave(successor), f"you are out of {room}")


@click.command("role", short_help="change a member's role", epilog=examples("unibus room role ops bob owner"))
@click.argument("room")
@click.argument("handle")
@click.argument("role", type=click.Choice(["owner", "member", "reader"]))
@pass_shared
def role(shared: Shared, room: str, handle: str, role: "RoomRole") -> None:
    """Change a member's role; a reader's right to write ends at once."""
    _change(shared, room, lambda found: found.set_role(handle, role), f"{handle} is now {role} in {room}")


@click.command("rename", short_help="give a room another name")
@click.argument("room")
@click.argument("name")
@same_name
@pass_shared
def rename(shared: Shared, room: str, name: str, same_name: bool) -> None:
    """Give a room another name. The server sees names."""
    _change(shared, room, lambda found: found.rename(name, unique=not same_name), f"{room} is now called {name}")


@click.command("rotate", short_help="begin a new key")
@click.argument("room")
@pass_shared
def rotate(shared: Shared, room: str) -> None:
    """Begin a new key, for the members of now."""
    _change(shared, room, lambda found: found.rotate(), f"{room} has a new key")


@click.command(
    "retain",
    short_help="say what the bus keeps",
    epilog=examples("unibus room retain ops --age 30d --size 2g", "unibus room retain ops"),
)
@click.argument("room")
@click.option("--age", metavar="DURATION", help="drop messages older than this: 12h, 30d …")
@click.option("--size", metavar="SIZE", help="drop the oldest messages above this: 500m, 2g …")
@pass_shared
def retain(shared: Shared, room: str, age: str | None, size: str | None) -> None:
    """Say what the bus keeps of a room's messages. Without options, everything."""
    seconds, most = parse_duration(age) if age else None, parse_size(size) if size else None
    kept = " and ".join([*([f"of the last {age}"] if age else []), *([f"up to {size}"] if size else [])])
    text = f"{room} keeps messages {kept}" if kept else f"{room} keeps all messages"
    _change(shared, room, lambda found: found.retain(seconds=seconds, size=most), text)


@click.command("archive", short_help="close a room for good")
@click.argument("room")
@pass_shared
def archive(shared: Shared, room: str) -> None:
    """Close a room for good: it stays readable for its members, and nothing is added."""
    _change(shared, room, lambda found: found.archive(), f"{room} is archived")


@click.command("purge", short_help="free what a room of nobody holds")
@click.argument("room", metavar="ROOM-ID")
@pass_shared
def purge(shared: Shared, room: str) -> None:
    """Free what a room holds in which nobody is left who is on the bus. For admins; unibus audit names rooms."""

    async def work() -> None:
        from yarl import URL

        path = URL(f"/v1/rooms/{check_room_id(room)}/content")
        async with shared.bus() as bus:
            await bus.api.remove(path)

    run(work())
    shared.tell({"purged": room}, "its messages and blobs are gone; its records stay")
