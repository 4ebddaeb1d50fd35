"""What a manifest names of a bus that is taken in, kept so that a million blobs cost no more memory than their places.

Must never give out a blob that the manifest does not name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from unibus.errors import BackupInvalid, NotFound
from unibus.model.backup import Header, Messages, Records, StoredBlob, read_line
from unibus.model.moving import contents
from unibus.services.ports import StreamState
from unibus.services.unpacking import Manifest
from unibus.store.blob_port import Place


@dataclass(slots=True)
class Plan:
    """A manifest in a file: where each blob's line begins in it, by room and id; `begun` once the records hold."""

    manifest: Path
    header: Header
    messages: Messages
    records: Records
    source: str
    blobs: dict[tuple[str, str], int]
    begun: bool = False

    @property
    def state(self) -> StreamState:
        """What the messages' stream is to be."""
        found = self.messages
        return StreamState(found.messages, found.bytes, found.first, found.last)

    def blob(self, room: str, blob: str) -> StoredBlob:
        """What the manifest says of a blob. Raises NotFound."""
        try:
            offset = self.blobs[room, blob]
        except KeyError:
            raise NotFound("the manifest names no such blob") from None
        with self.manifest.open("rb") as file:
            file.seek(offset)
            match read_line(file.readline()):
                case StoredBlob() as part:
                    return part
                case _:
                    raise BackupInvalid("its manifest has changed")


def place_of(part: StoredBlob) -> Place:
    """Where a blob goes."""
    return Place(part.room, part.id, part.owner)


def read_plan(path: Path) -> Plan:
    """What a manifest in a file says. Blocks. Raises BackupInvalid."""
    manifest = Manifest(path)
    header, messages = manifest.header(), manifest.messages()
    records = next(part for part in manifest.parts() if isinstance(part, Records))
    source = contents(chain([header], manifest.parts(), manifest.heads()))
    return Plan(path, header, messages, records, source, dict(_blob_lines(path)))


def _blob_lines(path: Path) -> Iterator[tuple[tuple[str, str], int]]:
    with path.open("rb") as file:
        offset = 0
        for text in file:
            part = read_line(text)
            if isinstance(part, StoredBlob):
                yield (part.room, part.id), offset
            offset += len(text)
