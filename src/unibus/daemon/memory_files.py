"""Files that an operator names, some of them secret, and memory files (memfd_create(2)) for the daemon and its child.

What others can read is refused, never used with a warning. Must never put a file's content into an error.
"""

import os
import shlex
from pathlib import Path

from unibus.errors import StartRefused, reason_of

OTHERS = 0o077
LARGEST = 1 << 20


def path_of(descriptor: int) -> Path:
    """Where a process finds a file that it has open: the daemon, and the child that inherited it."""
    return Path(f"/proc/self/fd/{descriptor}")


def read_file(path: Path, flag: str, *, private: bool = False) -> bytes:
    """What is in the file that `flag` names, up to a mebibyte; `private` ones only we may read. Raises StartRefused."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if private and found.st_mode & OTHERS:
                raise StartRefused(f"{flag} {path} can be read by others: chmod 600 {shlex.quote(str(path))}")
            if private and found.st_uid not in {0, os.geteuid()}:
                raise StartRefused(f"{flag} {path} belongs to another user, who can change it: chown it")
            return file.read(LARGEST)
    except OSError as error:
        raise StartRefused(f"cannot read {flag} {path}: {reason_of(error)}") from error


def fill(descriptor: int, content: bytes) -> None:
    """Make `content` all that the memory file holds."""
    os.pwrite(descriptor, content, 0)
    os.ftruncate(descriptor, len(content))
