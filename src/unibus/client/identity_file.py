"""Identity files: one NATS user seed (`SU…`) in a file that only its owner can read, as stock NATS tools use them too.

The one place of the client where a secret touches the disk. Never overwrites a file, never reads one that others can.
"""

import errno
import os
import secrets
import stat
from pathlib import Path

from unibus.crypto.identity import Identity
from unibus.errors import InvalidInput, KeyCustody, reason_of


def load_identity(path: Path) -> Identity:
    """The identity in the file. Raises KeyCustody when it is missing, damaged, or open to others."""
    try:
        text = read_private(path, 256, "the identity").decode("ascii", errors="replace").strip()
    except FileNotFoundError as error:
        raise KeyCustody(f"there is no identity at {path}: make one with unibus identity new") from error
    try:
        return Identity.from_seed(text)
    except InvalidInput as error:
        raise KeyCustody(f"{path} does not hold a NATS user seed (SU…): {error}") from error


def new_identity(path: Path) -> Identity:
    """Make an identity and keep it in a new file of mode 0600. Raises KeyCustody when there is a file already."""
    identity = Identity.from_secret(secrets.token_bytes(32))
    keep_identity(identity, path)
    return identity


def keep_identity(identity: Identity, path: Path) -> None:
    """Keep `identity` in a new file of mode 0600. Raises KeyCustody when there is a file already."""
    try:
        write_private(path, identity.seed.encode() + b"\n")
    except FileExistsError as error:
        raise KeyCustody(
            f"there is an identity at {path} already: it is kept; name another place for a second"
        ) from error
    except OSError as error:
        raise KeyCustody(f"cannot write an identity to {path}: {reason_of(error)}") from error


def read_private(path: Path, limit: int, what: str) -> bytes:
    """The file's first `limit` bytes. Raises KeyCustody when it is open to others or no file; FileNotFoundError."""
    try:
        # Without waiting: a pipe is opened at once, and then refused.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise KeyCustody(f"cannot read {what} {path}: {reason_of(error)}") from error
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise KeyCustody(f"{path} is not a file")
        if status.st_mode & 0o077:
            raise KeyCustody(f"others can read {what} {path}: close it with chmod 600 {path}")
        return file.read(limit)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, wholly or not at all, and have it on the disk. Raises OSError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        # Half a secret is none, and would only be in the way of the next attempt.
        path.unlink()
        raise


def state_path(identity_path: Path) -> Path:
    """Where what this identity has verified is remembered: beside the identity."""
    return identity_path.with_name(identity_path.name + ".state")
