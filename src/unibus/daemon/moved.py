"""The note in a data directory that its bus is moved to a cluster. While it is there, no daemon starts on it.

Must never be lost by a crash: it is on disk before anything of the bus is elsewhere.
"""

import contextlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from unibus.daemon.data_dir import MOVED
from unibus.errors import StartRefused
from unibus.store.files import keep, make_private, sync_directory


class Moved(BaseModel):
    """The bus, the node that it goes to, when it stood still (Unix seconds), and whether all of it is there."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    bus: str
    to: str
    at: int
    done: bool


def read_moved(data_dir: Path) -> Moved | None:
    """The note, if there is one. Raises StartRefused when it cannot be read."""
    path = data_dir / MOVED
    try:
        return Moved.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StartRefused(f"{path} cannot be read: it says where the bus of this directory lives now") from error


def check_not_moved(data_dir: Path) -> None:
    """Return if the bus in the directory is not moved away. Raises StartRefused, which says where it is."""
    moved = read_moved(data_dir)
    if moved is None:
        return
    if moved.done:
        raise StartRefused(f"the bus {moved.bus} in {data_dir} was moved to {moved.to}: it lives there, use that node")
    raise StartRefused(
        f"the bus {moved.bus} in {data_dir} is being moved to {moved.to}: repeat unibus migrate-to-kv; or wipe "
        f"the nodes there for good, and remove {data_dir / MOVED}"
    )


def note_moved(data_dir: Path, moved: Moved) -> None:
    """Write the note, durably. Raises OSError."""
    partial = data_dir / f"{MOVED}.new"
    partial.unlink(missing_ok=True)
    make_private(partial)
    partial.write_text(moved.model_dump_json())
    keep(partial, data_dir / MOVED)


def forget_moved(data_dir: Path) -> None:
    """Take the note away, durably. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        (data_dir / MOVED).unlink()
    sync_directory(data_dir)
