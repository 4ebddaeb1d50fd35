"""The data directory: made private, held by one daemon at a time, and home of the bootstrap token.

The lock is the kernel's (flock), so that it ends with its holder however that ends.
"""

import fcntl
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from unibus.errors import StartRefused

TOKEN = "bootstrap-token"  # noqa: S105 - a file's name


class DataDir:
    """Holds `path` while it is entered. Raises StartRefused when another daemon does, or it cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartRefused(f"cannot use the data directory {self.path}: {error.strerror}") from error
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
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def token_path(self) -> Path:
        return self.path / TOKEN

    def bootstrap_token(self) -> str:
        """The one-time token that founds the bus; made at the first call, readable by the directory's owner only."""
        try:
            return self.token_path.read_text().strip()
        except FileNotFoundError:
            pass
        token = secrets.token_urlsafe(32)
        handle = os.open(self.token_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
        return token

    def spend_token(self) -> None:
        """Remove the token: the bus is founded."""
        self.token_path.unlink(missing_ok=True)
