"""Carrying an identity elsewhere: its seed under a passphrase, in a file of a form that other tools read.

What is remembered of a bus stays behind: it is verified anew where the identity arrives. Never overwrites a file.
"""

import secrets
from pathlib import Path

from unibus.client.identity_file import keep_identity, write_private
from unibus.crypto.identity import Identity
from unibus.crypto.pkcs8 import IV_BYTES, SALT_BYTES, open_seed, seal_seed
from unibus.errors import InvalidInput, KeyCustody, reason_of

LIMIT = 16_384  # bytes of a file that can be an export


def export_identity(identity: Identity, path: Path, passphrase: bytes) -> None:
    """Write `identity` under `passphrase` to a new file of mode 0600. Raises KeyCustody."""
    salt, iv = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(IV_BYTES)
    try:
        write_private(path, seal_seed(identity.signing.seed, passphrase, salt, iv))
    except FileExistsError as error:
        raise KeyCustody(f"there is a file {path} already: it is kept; name another") from error
    except OSError as error:
        raise KeyCustody(f"cannot write {path}: {reason_of(error)}") from error


def read_export(path: Path) -> bytes:
    """The file's content. Raises KeyCustody."""
    try:
        with path.open("rb") as file:
            content = file.read(LIMIT)
    except OSError as error:
        raise KeyCustody(f"cannot read {path}: {reason_of(error)}") from error
    return content


def import_identity(content: bytes, path: Path, passphrase: bytes) -> Identity:
    """The identity in an export, kept in a new identity file. Raises KeyCustody for what cannot be opened, or kept."""
    try:
        identity = Identity.from_secret(open_seed(content, passphrase))
    except InvalidInput as error:
        raise KeyCustody(error.message) from error
    keep_identity(identity, path)
    return identity
