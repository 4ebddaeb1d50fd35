"""What an unfinished upload leaves behind so that storing the same file again goes on: its key and the blob's id.

As secret as the file itself: one small file (0600) an upload, in a directory of its own (0700). The key is written
before anything is sent, and the id binds it to one content: with another content it must not be used.
"""

import contextlib
import os
import secrets
from hashlib import sha256
from pathlib import Path

from unibus.crypto.blobs import KEY_BYTES
from unibus.crypto.encoding import b64u, dump_json, load_json, transcript, unb64u
from unibus.errors import InvalidInput, KeyCustody


class Resume:
    """The note about storing the file `source` in `room`. Raises KeyCustody when `directory` cannot be used."""

    def __init__(self, directory: Path, room: str, source: Path) -> None:
        self._directory = directory
        named = transcript("unibus upload v1", room, os.fsencode(source.resolve()))
        self._path = directory / f"{sha256(named).hexdigest()[:32]}.json"
        self._key = b""
        self._id: str | None = None

    def key(self) -> bytes:
        """The key of the upload before, or a new one."""
        with contextlib.suppress(FileNotFoundError, InvalidInput):
            match load_json(self._path.read_bytes()):
                case {"key": str(key), "id": str(blob)}:
                    self._key, self._id = unb64u(key, size=KEY_BYTES), blob
        if not self._key:
            self._key = secrets.token_bytes(KEY_BYTES)
        return self._key

    def goes_on(self, blob: str) -> bool:
        """Whether the key may seal the content that gives the id `blob`. A new key is bound to it here, for good."""
        if self._id is None:
            self._write(blob)
        return self._id == blob

    def forget(self) -> None:
        """The upload is done, or its file is another now."""
        self._path.unlink(missing_ok=True)

    def _write(self, blob: str) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial = self._path.with_suffix(f".{secrets.token_hex(4)}")
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(dump_json({"id": blob, "key": b64u(self._key)}))
            partial.rename(self._path)
        except OSError as error:
            raise KeyCustody(f"cannot keep what an upload needs to resume in {self._directory}: {error}") from error
        self._id = blob
