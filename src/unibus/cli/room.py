"""`unibus room`: rooms and who is in them."""

from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import columns, emit, examples, printable, say
from unibus.cli.room_changes import archive, leave, purge, rename, retain, role, rotate, same_name

if TYPE_CHECKING:
    from unibus.client.room import Room
    from unibus.model.bodies import History, RoomRole


@click.group("room", short_help="rooms and who is in them")
def command() -> None:
    """Rooms and who is in them. ROOM is a room's id or its name; of two of one name, the one not archived."""


def _facts(room: "Room") -> dict[str, object]:
    state = room.state
    return {
        "room": room.id,
        "name": room.name,
        "history": state.history,
        "epoch": state.epoch.number,
        "records": state.head.sequence,
        "state": "archived" if state.archived else "open",
        "members": room.members,
    }


@command.command(
    "create",
    short_help="make a room, as its owner",
    epilog=examples("unibus room create ops", "unibus room create board --history since-join"),
)
@click.argument("name")
@click.option(
    "--history",
    type=click.Choice(["shared", "since-join"]),
    default="shared",
    show_default=True,
    help="shared: who joins late can read what came before; since-join: only what comes after",
)
@same_name
@pass_shared
def create(shared: Shared, name: str, history: "History", same_name: bool) -> None:
    """Make a room with you as its owner. Others may have a room of that name that you are not in."""

    async def work() -> dict[str, object]:
        async with shared.bus() as bus:
            return _facts(await bus.create_room(name, history, unique=not same_name))

    made = run(work())
    shared.tell(made, f"made room {name}", f"  id  {made['room']}")


@command.command("list", short_help="the rooms that you are in")
@pass_shared
def list_rooms(shared: Shared) -> None:
    """The rooms that you are in."""

    async def work() -> list[dict[str, object]]:
        async with shared.bus() as bus:
            return [_facts(room) for room in await bus.rooms()]

    rooms = run(work())
    if shared.json:
        for room in rooms:
            emit(room)
        return
    rows = (
        [str(r["name"]), str(len(r["members"])), str(r["history"]), str(r["state"]), str(r["room"])]  # type: ignore[arg-type]  # members is sized
        for r in rooms
    )
    for line in columns(["name", "members", "history", "state", "id"], rows):
        say(line)


@command.command("show", short_help="who is in a room")
@click.argument("room")
@pass_shared
def show(shared: Shared, room: str) -> None:
    """Who is in a room, verified from its signed log."""

    async def work() -> tuple[dict[str, object], dict[str, "RoomRole"]]:
        async with shared.bus() as bus:
            found = await bus.room(room)
            return _facts(found), found.members

    facts, members = run(work())
    if shared.json:
        emit(facts)
        return
    for key in ("name", "room", "state", "history", "epoch", "records"):
        say(f"{key:8} {printable(str(facts[key]))}")
    say("")
    for line in columns(["member", "role"], sorted(members.items())):
        say(line)


@command.command(
    "add",
    short_help="add a user",
    epilog=examples("unibus room add ops bob", "unibus room add ops watcher --role reader"),
)
@click.argument("room")
@click.argument("handle")
@click.option("--role", type=click.Choice(["member", "reader", "owner"]), default="member", show_default=True)
@pass_shared
def add(shared: Shared, room: str, handle: str, role: "RoomRole") -> None:
    """Add a user to a room."""

    async def work() -> None:
        async with shared.bus() as bus:
            await (await bus.room(room)).add(handle, role)

    run(work())
    shared.tell({"room": room, "added": handle, "role": role}, f"{handle} is in {room}, as {role}")


@command.command("remove", short_help="remove a member, now")
@click.argument("room")
@click.argument("handle")
@pass_shared
def remove(shared: Shared, room: str, handle: str) -> None:
    """Remove a member: cut off now, and what is sent from now on is under a key that they never get."""

    async def work() -> int:
        async with shared.bus() as bus:
            found = await bus.room(room)
            await found.remove(handle)
            return found.state.epoch.number

    epoch = run(work())
    shared.tell({"room": room, "removed": handle}, f"{handle} is out of {room}; the key is now of epoch {epoch}")


for part in (leave, role, rename, rotate, retain, archive, purge):
    command.add_command(part)
