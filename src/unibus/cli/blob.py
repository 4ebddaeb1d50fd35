"""`unibus blob`: files in a room, encrypted before they leave this machine, checked before they get their name here."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.output import columns, emit, examples, note, printable, say
from unibus.errors import InvalidInput, NotFound
from unibus.model.blobs import check_blob_name

if TYPE_CHECKING:
    from unibus.client.blob_manifests import Blob
    from unibus.client.messages import Refusal
    from unibus.client.room import Room


class TakesIds(click.Command):
    """A command that knows an id which begins with a dash from an option: one id in 64 does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_AS_ID + arg if arg.startswith("-") and _is_id(arg) else arg for arg in args])


_AS_ID = "id:"


def _own_name(path: str) -> str:
    """What the file at `path` is called, if a blob can be called that. Raises InvalidInput."""
    try:
        return check_blob_name(Path(path).absolute().name)
    except InvalidInput as error:
        raise InvalidInput(f"{error.message}: give another with --name") from error


@click.group("blob", short_help="files in a room")
def command() -> None:
    """Files in a room, encrypted on this machine. ROOM is a room's name or id, BLOB a blob's id or unique name."""


@command.command(
    "put",
    short_help="store a file",
    epilog=examples("unibus blob put ops report.pdf", "tar cz reports | unibus blob put ops - --name reports.tgz"),
)
@click.argument("room")
@click.argument("path")
@click.option("--name", help="what members see; needed for standard input (PATH is -)  [default: the file's name]")
@click.option("--type", "media_type", help="the media type, such as image/png")
@pass_shared
def put(shared: Shared, room: str, path: str, name: str | None, media_type: str | None) -> None:
    """Store a file in ROOM. After a cut, the same command goes on where it was."""
    if path == "-" and name is None:
        raise click.UsageError("standard input has no name: give one with --name")
    shown = _own_name(path) if name is None else name
    # Beside the identity, and as secret: it holds the keys of unfinished uploads.
    resume = shared.identity_path.with_name(shared.identity_path.name + ".uploads")

    async def work() -> str:
        async with shared.bus() as bus:
            found = await bus.room(room)
            source = sys.stdin.buffer if path == "-" else Path(path)
            with _bar(shown) as progress:
                return await found.put_blob(source, shown, media_type=media_type, resume=resume, progress=progress)

    blob = run(work())
    shared.tell({"room": room, "blob": blob, "name": shown}, f"stored {printable(shown)}", f"  id  {blob}")


@command.command(
    "get",
    cls=TakesIds,
    short_help="fetch a file",
    epilog=examples("unibus blob get ops report.pdf", "unibus blob get ops report.pdf /tmp/copy.pdf"),
)
@click.argument("room")
@click.argument("blob")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@pass_shared
def get(shared: Shared, room: str, blob: str, path: Path | None) -> None:
    """Fetch a blob into a new file, by default of its own name here. After a cut, the same command goes on."""

    async def work() -> tuple["Blob", Path]:
        async with shared.bus() as bus:
            found = await bus.room(room)
            meant = await _find(found, blob)
            target = _target(meant.name, path)
            with _bar(meant.name) as progress:
                return await found.get_blob(meant.id, target, progress=progress), target

    fetched, target = run(work())
    shared.tell(
        {**_facts(fetched), "path": str(target)},
        f"fetched {printable(str(target))}, {fetched.size} bytes, from {fetched.handle}",
    )


@command.command("list", short_help="the files of a room")
@click.argument("room")
@pass_shared
def list_blobs(shared: Shared, room: str) -> None:
    """The blobs of a room, each with its manifest verified."""

    async def work() -> list["Blob"]:
        async with shared.bus() as bus:
            return await (await bus.room(room)).blobs(on_refused=_refused)

    blobs = run(work())
    if shared.json:
        for blob in blobs:
            emit(_facts(blob))
        return
    rows = ([b.name, str(b.size), b.handle, f"{b.stored_at.astimezone():%Y-%m-%d %H:%M}", b.id] for b in blobs)
    for line in columns(["name", "bytes", "from", "stored", "id"], rows):
        say(line)


@command.command("rm", cls=TakesIds, short_help="delete a file")
@click.argument("room")
@click.argument("blob")
@pass_shared
def remove(shared: Shared, room: str, blob: str) -> None:
    """Delete a blob: one of yours, or any as an owner of the room."""

    async def work() -> str:
        async with shared.bus() as bus:
            found = await bus.room(room)
            # By its id, also one whose manifest does not verify can be deleted.
            named = blob.removeprefix(_AS_ID)
            meant = named if _is_id(named) else (await _find(found, named)).id
            await found.delete_blob(meant)
            return meant

    deleted = run(work())
    shared.tell({"room": room, "deleted": deleted}, f"deleted {deleted}")


def _is_id(text: str) -> bool:
    from unibus.model.blobs import check_blob_id

    try:
        check_blob_id(text)
    except InvalidInput:
        return False
    return True


async def _find(room: "Room", text: str) -> "Blob":
    text = text.removeprefix(_AS_ID)
    if _is_id(text):
        return await room.blob(text)
    found = [blob for blob in await room.blobs(on_refused=_refused) if blob.name == text]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(blob.id for blob in found)
        raise NotFound(f"several blobs are called {text!r}: name one by its id, of {ids}")
    raise NotFound(f"there is no blob {text!r} in this room: see unibus blob list")


def _target(name: str, path: Path | None) -> Path:
    if path is not None and not path.is_dir():
        return path
    if name[0] in ".-~":
        # Chosen by somebody else: such a name could make a shell's start-up file, or pass for an option later.
        raise InvalidInput(f"this blob is called {name!r}: say where to write it, as a third argument")
    return (path or Path()) / name


def _facts(blob: "Blob") -> dict[str, object]:
    return {
        "blob": blob.id,
        "name": blob.name,
        "bytes": blob.size,
        "type": blob.manifest.media_type,
        "handle": blob.handle,
        "sender": blob.sender,
        "stored_at": blob.stored_at.isoformat(),
    }


def _refused(refusal: "Refusal") -> None:
    note(f"refused a blob: {printable(refusal.error.message)} ({refusal.error.code})")


@contextlib.contextmanager
def _bar(name: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error where that is a terminal, else nothing."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    shown = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*shown, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(printable(name), total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)
