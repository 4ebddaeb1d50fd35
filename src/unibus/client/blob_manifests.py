"""Manifests of blobs: sealed for a room as its messages are, and believed by the same rules.

Never believes a manifest because the server shows it beside a blob: its signature names the blob, and its signer must
have been able to write in the room at the heads it names.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from unibus.client.judge import Judge
from unibus.client.messages import from_unix_ms
from unibus.crypto.blobs import sealed_size
from unibus.crypto.encoding import unb64u
from unibus.crypto.frames import Content, open_frame, read_envelope, seal_frame
from unibus.crypto.nkeys import SigningKey
from unibus.errors import BlobInvalid, FrameInvalid, InvalidInput
from unibus.model.blobs import BlobManifest, manifest_purpose
from unibus.model.directory import Directory
from unibus.model.room import Room
from unibus.model.wire import BlobView


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob whose manifest was verified: who stored it, when by their clock, and what it is."""

    id: str
    sender: str
    handle: str
    stored_at: datetime
    manifest: BlobManifest

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def size(self) -> int:
        """Bytes of plaintext."""
        return self.manifest.size

    @property
    def key(self) -> bytes:
        return unb64u(self.manifest.key, size=32)

    def __repr__(self) -> str:
        return f"Blob({self.id}, {self.name!r}, {self.size} bytes, from {self.handle})"


def seal_manifest(
    blob: str, manifest: BlobManifest, signing: SigningKey, key: bytes, room: Room, directory: Directory, now: float
) -> bytes:
    """The manifest for the room's current epoch, whose key is `key`. `now` is in Unix seconds."""
    text = manifest.model_dump_json(exclude_none=True).encode()
    content = Content(int(now * 1000), room.head, directory.head, (text,))
    ref = room.epoch_ref(room.epoch.number)
    return seal_frame(signing, key, ref, secrets.token_bytes(16), 0, content, manifest_purpose(blob))


def manifest_epoch(view: BlobView) -> int:
    """The epoch that the manifest says it is sealed under. Raises BlobInvalid."""
    try:
        return read_envelope(unb64u(view.manifest)).epoch
    except (FrameInvalid, InvalidInput) as error:
        raise BlobInvalid(f"the server shows something else for the manifest of blob {view.id}") from error


def open_manifest(view: BlobView, key: bytes, room: Room) -> Content:
    """What is inside. Raises BlobInvalid when it was not made for this blob, in this room, by who is said to have."""
    frame = unb64u(view.manifest)
    envelope = read_envelope(frame)
    try:
        content = open_frame(frame, envelope, key, room.epoch_ref(envelope.epoch), manifest_purpose(view.id))
    except FrameInvalid as error:
        raise BlobInvalid(f"the manifest shown for blob {view.id} was not made for it: altered or swapped") from error
    if envelope.sender != view.uploader:
        raise BlobInvalid(f"the server names somebody else for blob {view.id} than who signed its manifest")
    return content


def believe(view: BlobView, content: Content, room: Room, directory: Directory) -> Blob:
    """The blob, if its manifest may be believed. Raises as `Judge.accept`, and BlobInvalid for what makes no sense."""
    envelope = read_envelope(unb64u(view.manifest))
    Judge().accept(envelope, content, room, directory)
    try:
        (text,) = content.messages
        manifest = BlobManifest.model_validate_json(text)
    except (ValueError, ValidationError) as error:
        raise BlobInvalid(f"the manifest of blob {view.id} is not of the required form") from error
    if sealed_size(manifest.size) != view.size:
        raise BlobInvalid(f"the server shows another size for blob {view.id} than its manifest")
    who = directory.handle_of(envelope.sender)
    return Blob(view.id, envelope.sender, who, from_unix_ms(content.sent_at), manifest)
