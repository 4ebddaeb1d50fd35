"""The data directory: made private, held by one daemon at a time, and home of the bootstrap token.

The lock is the kernel's (flock), so that it ends with its holder however that ends. Whoever takes it also ends what a
crash has interrupted: copies that were put aside for a backup go, and a restore is either undone or finished.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from unibus.bus.mark import MARK
from unibus.errors import StartRefused, reason_of
from unibus.store.files import sync_directory

TOKEN = "bootstrap-token"  # noqa: S105 - a file's name
STORE, BLOBS, MESSAGES = "unibus.sqlite3", "blobs", "nats"
"""What a bus is made of; the store is moved in last."""
REPLICA = "replica.sqlite3"
"""A node's own copy of the records that a cluster keeps; it can be made again."""
BACKUP = "backup"
"""Copies that are put aside while a backup is made."""
MOVING = "moving"
"""Copies for a move: of what goes out of this directory, or of what comes in."""
MOVED = "moved"
"""The file that says where the bus of this directory lives now."""
RESTORING, RESTORED = "restoring", "restored"
"""Where a restore puts together what it verifies, and the name of that once all of it holds."""


def make_private(path: Path) -> None:
    """Make the directory where it is missing. Raises StartRefused for one that others may write in, OSError."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Whoever may write here could put a bootstrap token of their own choice there, and become the first admin.
    facts = path.stat()
    if facts.st_mode & 0o022 or facts.st_uid not in {0, os.geteuid()}:
        raise StartRefused(f"others may write in {path}: make it yours alone with chown and chmod 700")


class DataDir:
    """Holds `path` while it is entered. Raises StartRefused when another daemon does, or it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Self:
        try:
            make_private(self.path)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartRefused(
                f"cannot use the data directory {self.path}: {reason_of(error)}; "
                "make it this user's own, or name another --data-dir"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._lock, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            self._lock = None
            raise StartRefused(
                f"another unibus-membershipd (process {holder}) uses {self.path}: stop it, or name another --data-dir"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        try:
            self._settle()
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise StartRefused(f"cannot tidy the data directory {self.path}: {reason_of(error)}") from error
        return self

    def _settle(self) -> None:
        for left in (BACKUP, MOVING, RESTORING):
            shutil.rmtree(self.path / left, ignore_errors=True)
        if (self.path / RESTORED).is_dir():
            self.move_in()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def holds_bus(self) -> bool:
        """Whether there is anything of a bus."""
        return any((self.path / name).exists() for name in (STORE, BLOBS, MESSAGES, TOKEN))

    def commit(self) -> None:
        """Make what lies in `RESTORING`, synced, this directory's bus. A crash after its first step undoes nothing."""
        (self.path / RESTORING).rename(self.path / RESTORED)
        sync_directory(self.path)
        self.move_in()

    def move_in(self) -> None:
        """Bring what lies in `RESTORED` to its places. May be interrupted and done again."""
        (self.path / MARK).unlink(missing_ok=True)  # it tells of messages that were here before
        for name in (MESSAGES, BLOBS, STORE):
            if (self.path / RESTORED / name).exists():
                (self.path / RESTORED / name).rename(self.path / name)
        sync_directory(self.path)
        shutil.rmtree(self.path / RESTORED)
        sync_directory(self.path)

    @property
    def token_path(self) -> Path:
        return self.path / TOKEN

    def bootstrap_token(self) -> str:
        """The one-time token that founds the bus; made at the first call, readable by the directory's owner only."""
        with contextlib.suppress(FileNotFoundError):
            if token := self.token_path.read_text().strip():
                return token
            self.token_path.unlink()  # its writing was cut off
        token = secrets.token_urlsafe(32)
        handle = os.open(self.token_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
        return token

    def spend_token(self) -> None:
        """Remove the token: the bus is founded."""
        self.token_path.unlink(missing_ok=True)
