"""Sets of files that appear wholly or not at all, however the process ends; secrets are their owner's from the start.

A set is written below `.staged` in the private directory `secrets`, gets the name `.ready` once all of it is on disk,
and is then moved to its places one file after the other. Whoever comes next finishes what is ready and drops what is
not. Must never leave a secret where others can read it.
"""

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from unibus.errors import KeyCustody

_STAGED, _READY, _LOCK = ".staged", ".ready", ".lock"
SENDING = "sending-"
"""How copies are called that exist while they are sent to a node."""
LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class NewFile:
    """What is to stand in a file; a secret one only its owner may read."""

    content: bytes
    secret: bool


@contextlib.contextmanager
def holding(base: Path, secrets: Path) -> Iterator[None]:
    """Be the only one who changes the files below `base` meanwhile, and begin by settling what a crash left.

    `secrets` is made private. Raises KeyCustody when it is another's or another process is at it; OSError.
    """
    secrets.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = secrets.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise KeyCustody(f"{secrets} has to be a directory of yours alone: chmod 700 {secrets}")
    lock = os.open(secrets / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        settle(base, secrets)
        yield
    except BlockingIOError as error:
        raise KeyCustody(f"another process is making files in {secrets}: wait for its end") from error
    finally:
        os.close(lock)


def write(base: Path, secrets: Path, files: Mapping[str, NewFile]) -> None:
    """Put `files`, named by their paths below `base`, into their places as one set. Raises OSError."""
    staged = secrets / _STAGED
    try:
        for name, file in files.items():
            target = staged / name
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_new(target, file)
        for directory, _, _ in os.walk(staged):
            _sync(Path(directory))
    except OSError:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    if files:
        staged.rename(secrets / _READY)
        _sync(secrets)
        settle(base, secrets)


def settle(base: Path, secrets: Path) -> None:
    """Finish a set that is ready, drop one that is not, and copies. May be done again at any time. Raises OSError."""
    for left in (*secrets.glob(_STAGED), *secrets.glob(f"{SENDING}*")):
        shutil.rmtree(left)
    ready = secrets / _READY
    if not ready.exists():
        return
    for path in sorted(path for path in ready.rglob("*") if path.is_file()):
        target = base / path.relative_to(ready)
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.rename(target)
        _sync(target.parent)
    shutil.rmtree(ready)
    _sync(secrets)


def read(path: Path) -> bytes | None:
    """What a public file holds, None where there is none. Raises OSError, also for a link."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            return file.read(LARGEST)
    except FileNotFoundError:
        return None


def read_secret(path: Path) -> bytes | None:
    """What a secret file holds, None where there is none. Raises KeyCustody when others can read it; OSError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode) or facts.st_mode & 0o077 or facts.st_uid != os.geteuid():
            raise KeyCustody(f"{path} has to be a file that only you can read: chmod 600 {path}")
        return file.read(LARGEST)


def _write_new(path: Path, file: NewFile) -> None:
    mode = 0o600 if file.secret else 0o644
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as out:
        os.fchmod(out.fileno(), mode)  # whatever the umask
        out.write(file.content)
        out.flush()
        os.fsync(out.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
