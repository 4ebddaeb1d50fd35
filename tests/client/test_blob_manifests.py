"""Which manifests are believed: those of somebody who could write, under heads that hold, for this blob and size."""

import pytest

from tests.builders import AT, RoomStory, Story, identity, user
from unibus.client.blob_manifests import Blob, believe, manifest_epoch, open_manifest, seal_manifest
from unibus.crypto.blobs import sealed_size
from unibus.crypto.encoding import b64u
from unibus.crypto.frames import Content, seal_frame
from unibus.crypto.heads import Head
from unibus.errors import BlobInvalid, FrameInvalid, LogForked, LogRolledBack, OldEpoch, Untrusted
from unibus.model.blobs import BlobManifest, manifest_purpose
from unibus.model.wire import BlobView

ID, OTHER = b64u(bytes(32)), b64u(bytes([4]) * 32)
MANIFEST = BlobManifest(name="report", size=10, key=b64u(bytes([9]) * 32))


@pytest.fixture
def room() -> RoomStory:
    """Ada's room with bob; rex reads."""
    story = Story()
    story.admit("bob", "rex", "eve")
    room = RoomStory(story)
    room.add("bob")
    room.add("rex", role="reader")
    return room


def view(manifest: bytes, by: str = "bob", *, blob: str = ID, size: int = sealed_size(10)) -> BlobView:
    """What a server shows."""
    return BlobView(id=blob, size=size, uploader=user(by), stored_at=AT, manifest=b64u(manifest))


def sealed(room: RoomStory, by: str = "bob", *, blob: str = ID) -> bytes:
    """An honest client's manifest, whoever runs it."""
    key, directory = room.key(room.state.epoch.number), room.story.directory
    return seal_manifest(blob, MANIFEST, identity(by).signing, key, room.state, directory, float(AT))


def forged(room: RoomStory, text: bytes, *, by: str = "bob", epoch: int = 1, knows: Head | None = None) -> bytes:
    """A manifest of any content, naming any head of the room."""
    content = Content(AT * 1000, knows or room.state.head, room.story.directory.head, (text,))
    ref, key = room.state.epoch_ref(epoch), room.key(epoch)
    return seal_frame(identity(by).signing, key, ref, bytes(16), 0, content, manifest_purpose(ID))


def judged(shown: BlobView, room: RoomStory) -> Blob:
    content = open_manifest(shown, room.key(manifest_epoch(shown)), room.state)
    return believe(shown, content, room.state, room.story.directory)


def test_a_writers_manifest_is_believed(room: RoomStory) -> None:
    blob = judged(view(sealed(room)), room)
    assert (blob.id, blob.handle, blob.name, blob.size, blob.key) == (ID, "bob", "report", 10, bytes([9]) * 32)
    assert b64u(blob.key) not in repr(blob)


def test_it_is_believed_after_its_signer_has_left(room: RoomStory) -> None:
    shown = view(sealed(room))
    room.take(room.removal("bob"))
    assert judged(shown, room).handle == "bob"


@pytest.mark.parametrize("who", ["rex", "eve"])
def test_who_may_not_write_is_not_believed(room: RoomStory, who: str) -> None:
    with pytest.raises(FrameInvalid, match="could not write"):
        judged(view(sealed(room, who), who), room)


def test_who_was_removed_is_not_believed(room: RoomStory) -> None:
    room.take(room.removal("bob"))
    with pytest.raises(FrameInvalid, match="could not write"):
        judged(view(sealed(room)), room)


def test_a_key_from_before_a_removal_is_not_used_by_who_knew(room: RoomStory) -> None:
    room.take(room.removal("rex"))
    with pytest.raises(OldEpoch):
        judged(view(forged(room, MANIFEST.model_dump_json().encode(), epoch=1)), room)


@pytest.mark.parametrize(("head", "error"), [(Head(2, bytes(32)), LogForked), (Head(9, bytes(32)), LogRolledBack)])
def test_heads_that_are_not_in_the_log_are_not_believed(room: RoomStory, head: Head, error: type[Untrusted]) -> None:
    with pytest.raises(error):
        judged(view(forged(room, MANIFEST.model_dump_json().encode(), knows=head)), room)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        MANIFEST.model_dump_json().replace("report", "../report").encode(),
        MANIFEST.model_dump_json().replace("10", "-1").encode(),
        MANIFEST.model_dump_json().replace("report", "\\u0000").encode(),
    ],
)
def test_a_members_nonsense_is_named(room: RoomStory, text: bytes) -> None:
    with pytest.raises(BlobInvalid, match="required form"):
        judged(view(forged(room, text)), room)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"blob": OTHER}, "altered or swapped"),
        ({"by": "ada"}, "somebody else"),
        ({"size": sealed_size(11)}, "another size"),
    ],
)
def test_what_a_server_shows_with_it_has_to_fit(room: RoomStory, change: dict[str, str], name: str) -> None:
    with pytest.raises(BlobInvalid, match=name):
        judged(view(sealed(room), **change), room)  # type: ignore[arg-type]  # of each row's own kind


def test_what_is_no_manifest_at_all_is_named(room: RoomStory) -> None:
    for raw in (b"", b"x" * 300):
        with pytest.raises(BlobInvalid):
            judged(view(raw), room)
    for text in ("=", "A"):
        with pytest.raises(BlobInvalid):
            judged(view(b"").model_copy(update={"manifest": text}), room)
