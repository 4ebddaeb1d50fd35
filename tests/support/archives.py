"""Backups as somebody makes them who has an admin's key and none of our manners: only what is inside is wrong."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from tarfile import open as open_tar
from typing import TypeVar

from tests.builders import identity
from unibus.crypto.encoding import b64u
from unibus.crypto.heads import digest
from unibus.model.backup import (
    END,
    MANIFEST,
    SIGNATURE,
    Header,
    LogHead,
    Messages,
    Records,
    StoredBlob,
    member,
    padding,
    read_line,
    write_line,
    write_seal,
)
from unibus.store.snapshot import read_snapshot

Measured = TypeVar("Measured", Messages, Records)
Change = Callable[["Forgery"], object]


def members(path: Path) -> dict[str, bytes]:
    """The members of a tar, as any tool reads it."""
    with open_tar(path) as tar:
        return {name: file.read() for name in tar.getnames() if (file := tar.extractfile(name)) is not None}


def packed(name: str, data: bytes) -> bytes:
    """One member of a backup."""
    return member(name, len(data)) + data + padding(len(data))


class Forgery:
    """A backup taken apart. Change what stands here, then `write` it with digests and a signature that fit."""

    def __init__(self, path: Path, work: Path) -> None:
        self.data = members(path)
        lines = [read_line(line) for line in self.data[MANIFEST].splitlines()]
        (self.header,) = [line for line in lines if isinstance(line, Header)]
        (self.messages,) = [line for line in lines if isinstance(line, Messages)]
        (self.records,) = [line for line in lines if isinstance(line, Records)]
        self.blobs = [line for line in lines if isinstance(line, StoredBlob)]
        self.heads = [line for line in lines if isinstance(line, LogHead)]
        self.signer = identity("ada").signing
        self.bus = self.header.bus
        self._work = work

    def alter_store(self, *statements: str, heads: bool = True) -> None:
        """Run SQL on the store, its triggers put aside meanwhile; with `heads`, the manifest names what is there then.

        Every statement has to change something. `:directory`, `:room`, `:audit` stand for the numbers of those logs,
        `:name` for the room's name.
        """
        path = self._work / "forged.sqlite3"
        path.write_bytes(self.data[self.records.name])
        with closing(sqlite3.connect(path)) as db:
            triggers = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
            for name, _ in triggers:
                db.execute(f"DROP TRIGGER {name}")
            logs = db.execute("SELECT CAST(name AS TEXT), id FROM logs").fetchall()
            known = {name.partition("/")[0]: number for name, number in logs}
            known["name"] = next(name.encode() for name, _ in logs if name.startswith("room/"))
            for statement in statements:
                assert db.execute(statement, known).rowcount != 0, statement
            for _, sql in triggers:
                db.execute(sql)
            db.commit()
        self.data[self.records.name] = path.read_bytes()
        if heads:
            with read_snapshot(path) as snapshot:
                self.heads = [
                    LogHead(log=log, sequence=sequence, hash=b64u(digest(last)))
                    for log, sequence, last in snapshot.heads()
                ]

    def alter(self, name: str, data: bytes) -> None:
        """Give a member other bytes."""
        self.data[name] = data

    def write(self, path: Path) -> Path:
        """The backup as a file at `path`."""
        parts: list[Messages | StoredBlob | Records] = [
            self._measured(self.messages),
            *self.blobs,
            self._measured(self.records),
        ]
        manifest = b"".join(map(write_line, [self.header, *parts, *self.heads]))
        body = packed(MANIFEST, manifest) + b"".join(packed(part.name, self.data[part.name]) for part in parts)
        seal = write_seal(self.signer, self.bus, self.header.at, sha256(body).digest())
        path.write_bytes(body + packed(SIGNATURE, seal) + END)
        return path

    def _measured(self, part: Measured) -> Measured:
        data = self.data[part.name]
        return part.model_copy(update={"size": len(data), "sha256": b64u(sha256(data).digest())})
