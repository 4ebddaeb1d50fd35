"""Who may store, fetch and delete blobs, what counts against whom, and what the sweep takes."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import pytest

from tests.builders import RoomStory, Story, identity, user
from tests.services.running import Node
from tests.support.parts import Stuck, blocks
from unibus.crypto.encoding import b64u
from unibus.crypto.frames import MESSAGES, Content, Purpose, seal_frame
from unibus.errors import (
    DigestMismatch,
    Forbidden,
    HeadConflict,
    InvalidInput,
    NotAUser,
    NotFound,
    QuotaExceeded,
    TooLarge,
    UnibusError,
    UploadConflict,
)
from unibus.model.blobs import manifest_purpose
from unibus.services.blob_quota import OVERHEAD, BlobLimits
from unibus.services.blobs import GRACE, Blobs
from unibus.store.blob_files import FileBlobs
from unibus.store.blob_port import Held, Upload

DATA = b"sealed bytes" * 10
ID = b64u(sha256(DATA).digest())
OTHER = b64u(sha256(b"other").digest())
LIMITS = BlobLimits(blob=1000, user=3 * OVERHEAD, total=5 * OVERHEAD)


class Clock:
    """A clock that stands until it is set; it begins at the files' own time."""

    def __init__(self, path: Path) -> None:
        self.now = path.stat().st_mtime

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@asynccontextmanager
async def _opened(node: Node, clock: Clock, path: Path) -> AsyncIterator[Blobs]:
    blobs = Blobs(node.books, node.gate, await FileBlobs.open(path / "blobs"), node.audit, clock, LIMITS)
    await blobs.recount()
    yield blobs


@pytest.fixture
async def blobs(node: Node, clock: Clock, tmp_path: Path) -> AsyncIterator[Blobs]:
    async with _opened(node, clock, tmp_path) as blobs:
        yield blobs


def manifest(
    room: RoomStory, by: str = "bob", *, blob: str = ID, epoch: int | None = None, purpose: Purpose | None = None
) -> bytes:
    """A manifest as an honest client seals it, unless told otherwise."""
    number = epoch or room.state.epoch.number
    content = Content(1, room.state.head, room.story.directory.head, (b"{}",))
    key, ref = room.key(number), room.state.epoch_ref(number)
    return seal_frame(identity(by).signing, key, ref, bytes(16), 0, content, purpose or manifest_purpose(blob))


async def send(blobs: Blobs, room: RoomStory, by: str = "bob", data: bytes = DATA) -> None:
    await blobs.begin(user(by), room.id, ID, len(DATA))
    await blobs.receive(user(by), room.id, ID, 0, blocks(data))


async def store(blobs: Blobs, room: RoomStory, by: str = "bob") -> Held:
    await send(blobs, room, by)
    return await blobs.complete(user(by), room.id, ID, manifest(room, by))


async def fetch(blobs: Blobs, room: RoomStory, by: str) -> bytes:
    held = await blobs.find(user(by), room.id, ID)
    return b"".join([block async for block in blobs.read(user(by), held, 0, held.size)])


async def test_a_member_stores_and_every_member_fetches(blobs: Blobs, room: RoomStory) -> None:
    held = await store(blobs, room)
    assert (held.place.owner, held.size) == (user("bob"), len(DATA))
    for name in ("ada", "bob", "rex"):
        assert await fetch(blobs, room, name) == DATA
        assert await blobs.page(user(name), room.id, "", 10) == [held]


async def test_an_upload_by_another_name_counts_once_and_is_sealed_for_the_blob(blobs: Blobs, room: RoomStory) -> None:
    bob, name = user("bob"), b64u(bytes(32))
    await blobs.begin(bob, room.id, name, len(DATA))
    await blobs.receive(bob, room.id, name, 0, blocks(DATA), b64u(sha256(DATA).digest()))
    counted = blobs.stored_bytes
    with pytest.raises(InvalidInput, match="not one for this blob"):
        await blobs.complete(bob, room.id, name, manifest(room, blob=name), ID)
    for bad in ("../" + ID, ID + "A", ""):
        with pytest.raises(InvalidInput):
            await blobs.complete(bob, room.id, name, manifest(room), bad)
    for _ in range(2):  # repeated it is answered as the first time
        held = await blobs.complete(bob, room.id, name, manifest(room), ID)
        assert (held.place.blob, held.place.owner) == (ID, bob)
    assert blobs.stored_bytes == counted
    await blobs.delete(bob, room.id, ID)
    assert blobs.stored_bytes == 0


Act = Callable[[Blobs, RoomStory, str], Awaitable[object]]
READS: dict[str, Act] = {
    "find": lambda b, r, who: b.find(user(who), r.id, ID),
    "page": lambda b, r, who: b.page(user(who), r.id, "", 10),
    "delete": lambda b, r, who: b.delete(user(who), r.id, ID),
}
WRITES: dict[str, Act] = {
    "begin": lambda b, r, who: b.begin(user(who), r.id, ID, len(DATA)),
    "begin another": lambda b, r, who: b.begin(user(who), r.id, OTHER, 50),
    "upload": lambda b, r, who: b.upload(user(who), r.id, ID),
    "receive": lambda b, r, who: b.receive(user(who), r.id, ID, 0, blocks(DATA)),
    "complete": lambda b, r, who: b.complete(user(who), r.id, ID, manifest(r, "ada")),
    "abandon": lambda b, r, who: b.abandon(user(who), r.id, ID),
}


@pytest.mark.parametrize("act", [*READS, *WRITES])
@pytest.mark.parametrize("there", [True, False], ids=["there", "unknown"])
async def test_a_stranger_to_the_room_learns_nothing(blobs: Blobs, room: RoomStory, act: str, there: bool) -> None:
    if there:
        await store(blobs, room)
    for who, error in (("eve", NotFound), ("nobody", NotAUser)):
        with pytest.raises(error) as refused:
            await (READS | WRITES)[act](blobs, room, who)
        assert refused.value.message in {"there is no such room for you", NotAUser.title}
    assert blobs.stored_bytes == (len(DATA) + OVERHEAD if there else 0)


@pytest.mark.parametrize("act", WRITES)
async def test_a_reader_stores_nothing(blobs: Blobs, room: RoomStory, act: str) -> None:
    with pytest.raises(Forbidden):
        await WRITES[act](blobs, room, "rex")
    assert blobs.stored_bytes == 0


@pytest.mark.parametrize("act", [*READS, *WRITES])
async def test_who_was_removed_is_a_stranger(node: Node, blobs: Blobs, room: RoomStory, act: str) -> None:
    await store(blobs, room)
    await node.take("ada", room, room.removal("bob"))
    with pytest.raises(NotFound, match="no such room"):
        await (READS | WRITES)[act](blobs, room, "bob")


async def test_a_part_that_is_on_its_way_does_not_outlast_the_membership(
    node: Node, blobs: Blobs, room: RoomStory
) -> None:
    bob = user("bob")
    await blobs.begin(bob, room.id, ID, len(DATA))
    await blobs.receive(bob, room.id, ID, 0, blocks(DATA[:40]))
    stuck = Stuck(DATA[40:50], after=DATA[50:60])
    coming = asyncio.create_task(blobs.receive(bob, room.id, ID, 40, stuck.blocks()))
    await stuck.reached.wait()
    waiting = asyncio.create_task(blobs.receive(bob, room.id, ID, 60, blocks(DATA[60:])))
    await asyncio.wait({waiting}, timeout=0.1)
    await node.take("ada", room, room.removal("bob"))
    stuck.go_on.set()
    with pytest.raises(NotFound, match="no such room"):
        await coming
    with pytest.raises(UploadConflict):
        await waiting
    await node.take("ada", room, room.addition("bob"))
    found = await blobs.upload(bob, room.id, ID)
    assert isinstance(found, Upload)
    assert found.received == 40


async def test_a_download_ends_with_the_membership(node: Node, blobs: Blobs, room: RoomStory) -> None:
    held = await store(blobs, room)
    reading = blobs.read(user("rex"), held, 0, held.size)
    await node.take("ada", room, room.removal("rex"))
    with pytest.raises(NotFound):
        await anext(reading)


async def test_what_is_stored_and_deleted_is_in_the_audit_trail(node: Node, blobs: Blobs, room: RoomStory) -> None:
    before = len(await node.audit.read(0, 1000))
    await store(blobs, room)
    await blobs.delete(user("ada"), room.id, ID)
    entries = (await node.audit.read(0, 1000))[before:]
    facts = {"room": room.id, "size": len(DATA)}
    assert [(entry.actor, entry.action, entry.target, entry.facts) for entry in entries] == [
        (user("bob"), "blob.store", ID, facts),
        (user("ada"), "blob.delete", ID, facts),
    ]


async def test_an_upload_is_seen_by_its_owner_only(blobs: Blobs, room: RoomStory) -> None:
    await send(blobs, room, "bob")
    found = await blobs.upload(user("bob"), room.id, ID)
    assert isinstance(found, Upload)
    assert found.received == len(DATA)
    for act in (blobs.upload, blobs.abandon, blobs.find):
        with pytest.raises(NotFound):
            await act(user("ada"), room.id, ID)
    assert await blobs.page(user("bob"), room.id, "", 10) == []


async def test_who_stored_it_and_an_owner_delete_it(blobs: Blobs, room: RoomStory, node: Node) -> None:
    await node.take("ada", room, room.addition("cyd"))
    for by, denied in (("bob", ["cyd", "rex"]), ("ada", ["bob", "rex"])):
        await store(blobs, room, by)
        for who in denied:
            with pytest.raises(Forbidden):
                await blobs.delete(user(who), room.id, ID)
        await blobs.delete(user(by), room.id, ID)
        assert blobs.stored_bytes == 0
    await store(blobs, room, "bob")
    await blobs.delete(user("ada"), room.id, ID)
    with pytest.raises(NotFound):
        await blobs.delete(user("ada"), room.id, ID)


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda room: manifest(room, "ada"), Forbidden),
        (lambda room: manifest(room, blob=OTHER), InvalidInput),
        (lambda room: manifest(room, purpose=MESSAGES), InvalidInput),
        (lambda room: manifest(room)[:-1], InvalidInput),
        (lambda room: manifest(room)[:-1] + bytes([manifest(room)[-1] ^ 1]), InvalidInput),
        (lambda _: b"", InvalidInput),
        (lambda room: manifest(room) + bytes(5000), TooLarge),
        (lambda room: manifest(RoomStory(room.story, "bob", name="other")), InvalidInput),
    ],
    ids=["by another", "of another blob", "a message", "cut", "altered", "none", "huge", "of another room"],
)
async def test_a_manifest_is_signed_by_who_brings_it_for_this_blob(
    blobs: Blobs, room: RoomStory, made: Callable[[RoomStory], bytes], error: type[UnibusError]
) -> None:
    await send(blobs, room)
    with pytest.raises(error):
        await blobs.complete(user("bob"), room.id, ID, made(room))
    await blobs.complete(user("bob"), room.id, ID, manifest(room))


async def test_a_manifest_under_an_old_key_is_to_be_sealed_again(node: Node, blobs: Blobs, room: RoomStory) -> None:
    await send(blobs, room)
    old = manifest(room)
    await node.take("ada", room, room.removal("rex"))
    with pytest.raises(HeadConflict):
        await blobs.complete(user("bob"), room.id, ID, old)
    await blobs.complete(user("bob"), room.id, ID, manifest(room))


async def test_stored_again_it_is_the_same(blobs: Blobs, room: RoomStory) -> None:
    held = await store(blobs, room)
    assert await blobs.begin(user("ada"), room.id, ID, 5) == held
    assert await blobs.upload(user("ada"), room.id, ID) == held
    assert await blobs.complete(user("ada"), room.id, ID, manifest(room, "ada")) == held
    assert blobs.stored_bytes == len(DATA) + OVERHEAD


async def test_of_two_who_store_it_at_once_the_first_stays(blobs: Blobs, room: RoomStory) -> None:
    await send(blobs, room, "ada")
    await send(blobs, room, "bob")
    held = await asyncio.gather(*(blobs.complete(user(n), room.id, ID, manifest(room, n)) for n in ("ada", "bob")))
    assert held[0] == held[1]
    assert blobs.stored_bytes == len(DATA) + OVERHEAD


async def test_what_fails_on_a_stored_blob_does_not_stop_it_from_counting(blobs: Blobs, room: RoomStory) -> None:
    await store(blobs, room)
    with pytest.raises(NotFound):
        await blobs.receive(user("bob"), room.id, ID, 0, blocks(DATA))
    with pytest.raises(NotFound):
        await blobs.abandon(user("bob"), room.id, ID)
    await blobs.complete(user("bob"), room.id, ID, manifest(room))
    assert blobs.stored_bytes == len(DATA) + OVERHEAD


async def test_who_comes_second_keeps_no_upload(blobs: Blobs, room: RoomStory) -> None:
    await send(blobs, room, "ada")
    held = await store(blobs, room)
    assert await blobs.complete(user("ada"), room.id, ID, manifest(room, "ada")) == held
    with pytest.raises(NotFound):
        await blobs.abandon(user("ada"), room.id, ID)
    assert blobs.stored_bytes == len(DATA) + OVERHEAD


async def test_a_small_beginning_does_not_make_room_for_something_large(blobs: Blobs, room: RoomStory) -> None:
    await blobs.begin(user("bob"), room.id, ID, 16)
    for _ in range(2):
        with pytest.raises(UploadConflict):
            await blobs.begin(user("bob"), room.id, ID, 1000)
        assert blobs.stored_bytes == 16 + OVERHEAD


async def test_wrong_bytes_count_for_nobody(blobs: Blobs, room: RoomStory) -> None:
    await send(blobs, room, data=DATA[:-1] + b"?")
    with pytest.raises(DigestMismatch):
        await blobs.complete(user("bob"), room.id, ID, manifest(room))
    assert blobs.stored_bytes == 0


async def test_racing_uploads_share_what_is_left(blobs: Blobs, room: RoomStory) -> None:
    ids = [b64u(sha256(bytes([n])).digest()) for n in range(6)]
    begun = (blobs.begin(user("bob"), room.id, blob, 1000) for blob in ids)
    outcomes = await asyncio.gather(*begun, return_exceptions=True)
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 4
    assert blobs.stored_bytes == 2 * (1000 + OVERHEAD)
    with pytest.raises(TooLarge):
        await blobs.begin(user("ada"), room.id, ID, 1001)


async def test_a_restart_counts_what_is_there(
    node: Node, blobs: Blobs, room: RoomStory, clock: Clock, tmp_path: Path
) -> None:
    await store(blobs, room)
    await blobs.begin(user("bob"), room.id, OTHER, 500)
    async with _opened(node, clock, tmp_path) as again:
        assert again.stored_bytes == blobs.stored_bytes == len(DATA) + 500 + 2 * OVERHEAD
        await again.abandon(user("bob"), room.id, OTHER)
        await again.delete(user("bob"), room.id, ID)
        assert again.stored_bytes == 0


async def test_the_sweep_takes_what_rests_too_long_and_nothing_else(
    blobs: Blobs, room: RoomStory, clock: Clock
) -> None:
    await store(blobs, room)
    await blobs.begin(user("bob"), room.id, OTHER, 500)
    assert await blobs.sweep() == 0
    clock.now += GRACE + 60
    assert await blobs.sweep() == 1
    with pytest.raises(NotFound):
        await blobs.upload(user("bob"), room.id, OTHER)
    assert await fetch(blobs, room, "bob") == DATA
    assert blobs.stored_bytes == len(DATA) + OVERHEAD


async def test_the_sweep_takes_blobs_of_rooms_that_no_log_knows(
    blobs: Blobs, room: RoomStory, story: Story, clock: Clock, tmp_path: Path
) -> None:
    await store(blobs, room)
    lost = RoomStory(story, name="lost").id
    os.rename(tmp_path / "blobs" / "held" / room.id, tmp_path / "blobs" / "held" / lost)  # noqa: PTH104 - one call in a test
    assert await blobs.sweep() == 0
    clock.now += GRACE + 60
    assert await blobs.sweep() == 1
    assert not any((tmp_path / "blobs" / "held" / lost).iterdir())


@pytest.mark.parametrize("blob", ["..", "../" + ID[3:], "", ID + "A", ID[:-1] + "\n"])
async def test_an_id_is_never_a_path(blobs: Blobs, room: RoomStory, blob: str) -> None:
    for attempt in (
        blobs.begin(user("bob"), room.id, blob, 100),
        blobs.receive(user("bob"), room.id, blob, 0, blocks(DATA)),
        blobs.find(user("bob"), room.id, blob),
        blobs.delete(user("bob"), room.id, blob),
    ):
        with pytest.raises(InvalidInput):
            await attempt
