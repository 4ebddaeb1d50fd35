"""What an upload has to remember: its key, the name it goes by, and a hash for each part that may have left.

One key must never seal two contents. So a part is noted before it is sent, and only what has the noted hash is ever
sent in its place. In a file, for who wants to go on in another process, it is as secret as what is stored: one small
file (0600) an upload, in a directory of its own (0700), in which each part is on disk before it is sent.
"""

import contextlib
import os
import re
import secrets
from hashlib import sha256
from pathlib import Path

from unibus.crypto.blobs import KEY_BYTES
from unibus.crypto.encoding import b64u, dump_json, load_json, transcript, unb64u
from unibus.errors import InvalidInput, KeyCustody

_DIGEST = re.compile(rb"[A-Za-z0-9_-]{43}\n")


class Notes:
    """Of an upload that begins and ends in this process.

    `name` is what the upload goes by; `parts` has, for each part from the first on, the SHA-256 of everything up to its
    end.
    """

    def __init__(self) -> None:
        self.key = secrets.token_bytes(KEY_BYTES)
        self.name = b64u(secrets.token_bytes(32))
        self.parts: list[bytes] = []

    def add(self, digest: bytes) -> None:
        """Note the next part, before it is sent. Raises KeyCustody."""
        self.parts.append(digest)

    def forget(self) -> None:
        """The upload is done, or its file is another now."""


class KeptNotes(Notes):
    """Of storing the file `source` in `room`, kept in `directory`; those of an earlier attempt, if there are any."""

    def __init__(self, directory: Path, room: str, source: Path) -> None:
        super().__init__()
        self._directory = directory
        named = transcript("unibus upload v2", room, os.fsencode(source.resolve()))
        self._path = directory / f"{sha256(named).hexdigest()[:32]}.upload"
        self._kept = False
        with contextlib.suppress(FileNotFoundError):
            self._take_up(self._path.read_bytes())

    def _take_up(self, noted: bytes) -> None:
        head, _, rest = noted.partition(b"\n")
        with contextlib.suppress(InvalidInput):
            match load_json(head):
                case {"key": str(key), "name": str(name)}:
                    found = _DIGEST.findall(rest)
                    if b"".join(found) == rest:
                        self.key, self.name = unb64u(key, size=KEY_BYTES), name
                        self.parts = [unb64u(digest.decode().strip()) for digest in found]
                        self._kept = True

    def add(self, digest: bytes) -> None:
        """See `Notes.add`."""
        try:
            if not self._kept:
                self._begin()
            with self._path.open("ab") as file:
                file.write(b64u(digest).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise KeyCustody(f"cannot keep what an upload needs to resume in {self._directory}: {error}") from error
        super().add(digest)

    def _begin(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = self._path.with_suffix(f".{secrets.token_hex(4)}")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(dump_json({"key": b64u(self.key), "name": self.name}) + b"\n")
        partial.rename(self._path)
        self._kept = True

    def forget(self) -> None:
        """See `Notes.forget`."""
        self._path.unlink(missing_ok=True)
