"""Identity files: one NATS user seed (`SU…`) in a file that only its owner can read, as stock NATS tools use them too.

The one place of the client where a secret touches the disk. Never overwrites a file, never reads one that others can.
"""

import os
import secrets
import stat
from pathlib import Path

from unibus.crypto.identity import Identity
from unibus.errors import InvalidInput, KeyCustody


def load_identity(path: Path) -> Identity:
    """The identity in the file. Raises KeyCustody when it is missing, damaged, or open to others."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise KeyCustody(f"there is no identity at {path}: make one with unibus identity new") from error
    except OSError as error:
        raise KeyCustody(f"cannot read the identity {path}: {error.strerror}") from error
    with os.fdopen(handle) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise KeyCustody(f"{path} is not a file")
        if status.st_mode & 0o077:
            raise KeyCustody(f"others can read the identity {path}: close it with chmod 600 {path}")
        text = file.read(256).strip()
    try:
        return Identity.from_seed(text)
    except InvalidInput as error:
        raise KeyCustody(f"{path} does not hold a NATS user seed (SU…): {error}") from error


def new_identity(path: Path) -> Identity:
    """Make an identity and keep it in a new file of mode 0600. Raises KeyCustody when there is a file already."""
    identity = Identity.from_secret(secrets.token_bytes(32))
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise KeyCustody(
            f"there is an identity at {path} already: it is kept; name another place for a second"
        ) from error
    except OSError as error:
        raise KeyCustody(f"cannot write an identity to {path}: {error.strerror}") from error
    with os.fdopen(handle, "w") as file:
        file.write(identity.seed + "\n")
        file.flush()
        os.fsync(file.fileno())
    return identity


def state_path(identity_path: Path) -> Path:
    """Where what this identity has verified is remembered: beside the identity."""
    return identity_path.with_name(identity_path.name + ".state")
