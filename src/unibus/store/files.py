"""Files that only their owner may read, from their first byte on, and that a power cut does not take away again.

Must never open a database file that is there already: closing any descriptor of it would drop the locks that
SQLite holds on it in this process (POSIX advisory locks belong to the process, not to the descriptor).
"""

import os
import stat
from pathlib import Path

# What SQLite keeps beside a database. It gives new ones the database's own mode.
COMPANIONS = ("-wal", "-shm", "-journal")


def make_private(path: Path) -> None:
    """Create `path` (0600, empty) and its directory (0700) where they are missing, whatever the umask.

    Raises OSError, also when `path` is there and is a symbolic link or anything else but a plain file.
    """
    if not path.parent.is_dir():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(path.parent.parent)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise
    sync_directory(path.parent)


def tighten(path: Path) -> None:
    """Take everybody else's rights to a database and to what SQLite keeps beside it. Raises OSError."""
    for file in (path, *(path.with_name(path.name + companion) for companion in COMPANIONS)):
        if file.exists() and stat.S_IMODE(file.lstat().st_mode) != 0o600:
            file.chmod(0o600)


def keep(partial: Path, final: Path) -> None:
    """Give a finished file its final name, durably: its bytes are on disk before the name, and then the name is.

    Replaces what `final` was. Nothing may have `partial` open. Raises OSError.
    """
    descriptor = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(final)
    sync_directory(final.parent)


def sync_directory(path: Path) -> None:
    """Put a directory's names on disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Put everything below a directory on disk, names and bytes. Raises OSError."""
    for directory, _, names in os.walk(path):
        for name in names:
            descriptor = os.open(Path(directory) / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(directory))
