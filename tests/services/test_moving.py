"""A bus is taken in from another node: verified before anything counts, whole or not at all, and only where none is."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.builders import AT, RoomStory, Story, user
from tests.services.moving_stage import ENDED, FRAMES, HELD, NO_BLOB, Place, Sent, blocks, place
from tests.services.running import TOKEN, Node, running
from tests.services.test_blobs import DATA, ID, manifest
from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import WINDOW
from unibus.errors import (
    BootstrapRefused,
    DigestMismatch,
    InvalidInput,
    NotFound,
    RuleBroken,
    StorageUnavailable,
    UnibusError,
)
from unibus.model.backup import StoredBlob
from unibus.model.records import room_log
from unibus.services.moves import last_move
from unibus.store.blob_port import Held, Upload
from unibus.store.port import Append


@pytest.fixture
async def sent(node: Node, room: RoomStory, tmp_path: Path) -> Sent:
    """A bus with a room of three, rex as a reader among them."""
    assert room.id
    return await Sent.of(node, tmp_path / "sent.sqlite3")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Place]:
    """A place without a bus."""
    async with place(tmp_path / "here") as here:
        yield here


async def stage(here: Place) -> str:
    """How far the store says that a move is."""
    _, move = await last_move(here.node.store)
    return move.stage if move is not None else "none"


async def refusal(here: Place, sent: Sent) -> str:
    """Why it is refused from the beginning, after which nothing of it is in the store."""
    with pytest.raises(RuleBroken) as caught:
        await here.begin(sent)
    assert await here.node.written() == {}
    return caught.value.message


async def test_all_of_it_is_there_and_nothing_else(here: Place, sent: Sent, node: Node, room: RoomStory) -> None:
    await here.take(sent)
    written = await here.node.written()
    assert json.loads(written.pop("moves")[-1])["stage"] == "finished"
    assert written == await node.written()
    log = room_log(room.id)
    for name in map(user, ("ada", "bob", "rex")):
        assert await here.node.store.attachments(log, name, 0, 9) == await node.store.attachments(log, name, 0, 9)
        assert await here.node.gate.rooms(name, "", 9) == [room.id]
    assert await here.node.store.marks("", "", 99) == await node.store.marks("", "", 99)
    assert here.messages.state == HELD
    assert not (here.node.store._path.parent / "moving").exists()  # noqa: SLF001 - where it is, no port tells


async def test_each_trail_keeps_its_own_entries(here: Place, sent: Sent, node: Node) -> None:
    """Both nodes are called alike, and both have written."""
    with pytest.raises(BootstrapRefused):
        here.moving.check("wrong")
    await here.take(sent)
    brought = await here.node.store.entries(f"audit/test@{sent.header.bus[:8]}", 0, 999)
    assert brought == await node.store.entries("audit/test", 0, 999)
    own = await here.node.audit.read(0, 9)
    assert [(entry.action, entry.outcome) for entry in own] == [("bus.move", "refused"), ("bus.move", "ok")]


async def test_no_request_from_before_is_good_and_invites_are(here: Place, sent: Sent) -> None:
    await here.take(sent)
    assert here.node.books.floor == ENDED + WINDOW
    assert here.node.books.restored == 0


async def test_a_bus_that_was_moved_can_be_moved_again(here: Place, sent: Sent, node: Node, tmp_path: Path) -> None:
    await here.take(sent)
    again = await Sent.of(here.node, tmp_path / "again.sqlite3")
    async with place(tmp_path / "there") as there:
        await there.take(again)
        written = await there.node.written()
        assert len(written.pop("moves")) == 2
        assert written == await node.written()
        assert f"audit/test@{sent.header.bus[:8]}@{sent.header.bus[:8]}" in await there.node.store.logs("audit/", "", 9)


async def test_nobody_is_served_between_the_beginning_and_the_end(here: Place, sent: Sent) -> None:
    await here.begin(sent)
    for ask in (
        lambda: here.node.gate.user(user("ada")),
        lambda: here.node.gate.admin(user("ada")),
        here.node.reading.bus_id,
    ):
        with pytest.raises(StorageUnavailable, match="is being moved in here"):
            ask()
    with pytest.raises(StorageUnavailable, match="is being moved in here"):
        await here.node.membership.found(TOKEN, Story("eve").records[0])
    await here.take(sent)
    assert here.node.gate.admin(user("ada"))


async def test_a_node_that_only_hears_of_it_serves_nobody_before_it_has_read_on(here: Place, sent: Sent) -> None:
    here.node.books.heard("moves", 1)
    with pytest.raises(StorageUnavailable, match="is being moved in here"):
        here.node.books.check_current()
    await here.take(sent)
    here.node.books.heard("moves", 2)
    here.node.books.check_current()


TAMPERED: dict[str, tuple[str, Callable[[Sent], object]]] = {
    "a record": ("does not hold", lambda sent: sent.alter("UPDATE entries SET value = CAST(value || 'A' AS BLOB)")),
    "a sealed key": ("does not hold", lambda sent: sent.alter("UPDATE attachments SET value = zeroblob(1216)")),
    "a key for somebody else": (
        "does not hold",
        lambda sent: sent.alter(
            "UPDATE attachments SET name = ? WHERE name = ?", user("eve").encode(), user("bob").encode()
        ),
    ),
    "who is in which room": (
        "who is in which room",
        lambda sent: sent.alter("INSERT INTO marks VALUES (?, ?)", f"member/{user('eve')}/x".encode(), b"owner"),
    ),
    "a log of no bus": (
        "which no bus has",
        lambda sent: sent.alter(
            "UPDATE logs SET name = CAST('secrets' AS BLOB) WHERE name = CAST('audit/test' AS BLOB)"
        ),
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_what_was_tampered_with_is_refused_before_anything_is_written(here: Place, sent: Sent, what: str) -> None:
    """By somebody who makes the manifest fit, too."""
    reason, tamper = TAMPERED[what]
    tamper(sent)
    assert reason in await refusal(here, sent)


async def test_what_arrives_otherwise_than_the_manifest_says_is_refused(here: Place, sent: Sent) -> None:
    await here.moving.take_manifest(TOKEN, blocks(sent.manifest()))
    for altered in (sent.records.read_bytes()[:-1] + b"!", sent.records.read_bytes()[:-4096], b""):
        with pytest.raises(RuleBroken, match="not what the manifest names"):
            await here.moving.take_records(TOKEN, blocks(altered))
    assert await here.node.written() == {}
    await here.begin(sent)
    with pytest.raises(RuleBroken, match="not what the manifest names"):
        await here.moving.take_messages(TOKEN, blocks(FRAMES[:-1]))
    assert here.messages.state.last == 0


async def test_what_is_no_manifest_is_refused(here: Place, sent: Sent) -> None:
    lines = sent.manifest().splitlines(keepends=True)
    for altered in (b"", b"{}\n", lines[0], b"".join(lines[:2]), b"".join(lines[1:]), b"".join([*lines, b"\xff\n"])):
        with pytest.raises(RuleBroken, match="does not hold"):
            await here.moving.take_manifest(TOKEN, blocks(altered))


async def test_another_bus_than_the_manifest_names_is_refused(here: Place, sent: Sent) -> None:
    sent.header = sent.header.model_copy(update={"bus": Story("eve").bus})
    assert "another bus" in await refusal(here, sent)


async def test_a_time_that_cannot_be_is_refused(here: Place, sent: Sent) -> None:
    """An early one would let requests in again that were used."""
    sent.header = sent.header.model_copy(update={"at": AT - WINDOW - 1})
    assert "was in use after" in await refusal(here, sent)
    sent.header = sent.header.model_copy(update={"at": AT + 10_000})
    with pytest.raises(InvalidInput, match="clock"):
        await here.begin(sent)


async def test_of_a_founder_and_a_move_one_wins(here: Place, sent: Sent) -> None:
    eves = Story("eve").records[0]
    await here.moving.take_manifest(TOKEN, blocks(sent.manifest()))
    await here.node.store.append(Append("directory", 1, eves))  # by another node, which has not heard of the move
    with pytest.raises(RuleBroken, match="has a bus already"):
        await here.moving.take_records(TOKEN, blocks(sent.records.read_bytes()))
    assert await stage(here) == "dropped"
    written = await here.node.written()
    assert written.keys() == {"directory", "moves"}
    assert written["directory"] == [eves]
    await here.node.books.load()
    assert here.node.gate.admin(user("eve"))


async def test_another_bus_is_not_mixed_in(here: Place, sent: Sent, tmp_path: Path) -> None:
    await here.begin(sent)
    before = await here.node.written()
    async with running(tmp_path / "eve.db") as other:
        await other.found(Story("eve"))
        eves = await Sent.of(other, tmp_path / "eves.sqlite3")
    with pytest.raises(RuleBroken, match=f"the bus {sent.header.bus} is being moved in here"):
        await here.begin(eves)
    assert await here.node.written() == before


async def test_a_bus_that_went_on_meanwhile_is_refused(
    here: Place, sent: Sent, node: Node, room: RoomStory, tmp_path: Path
) -> None:
    await here.begin(sent)
    await node.take("ada", room, room.rotation())
    with pytest.raises(RuleBroken, match="not as it was when its move began"):
        await here.begin(await Sent.of(node, tmp_path / "later.sqlite3"))


async def test_a_move_that_was_broken_off_goes_on(here: Place, sent: Sent, node: Node, room: RoomStory) -> None:
    await here.begin(sent)
    log = room_log(room.id)
    first, *_ = await node.store.entries(log, 0, 1)
    keys = {name: (await node.store.attachments(log, name, 0, 1))[0].value for name in [user("ada")]}
    await here.node.store.append(Append(log, 1, first.value, keys))
    await here.take(sent)
    assert await stage(here) == "finished"
    assert (await here.node.written())[log] == (await node.written())[log]


async def test_what_is_here_otherwise_than_it_was_sent_never_becomes_the_bus(
    here: Place, sent: Sent, node: Node, room: RoomStory
) -> None:
    """Records without their sealed keys, for one."""
    await here.begin(sent)
    (first,) = await node.store.entries(room_log(room.id), 0, 1)
    await here.node.store.append(Append(room_log(room.id), 1, first.value))
    with pytest.raises(StorageUnavailable, match="not here as it was sent"):
        await here.take(sent)
    assert await stage(here) == "begun"
    await here.node.books.load()
    with pytest.raises(StorageUnavailable, match="is being moved in here"):
        here.node.gate.user(user("ada"))


def blob_of(room: RoomStory, note: bytes) -> StoredBlob:
    """A blob of bob's, as a manifest names it."""
    return StoredBlob(room=room.id, id=ID, size=len(DATA), owner=user("bob"), note=b64u(note), stored_at=AT)


async def test_a_blob_is_here_once_all_of_it_is(here: Place, sent: Sent, room: RoomStory) -> None:
    sent.blobs = [blob_of(room, manifest(room))]
    await here.begin(sent)
    await here.moving.take_messages(TOKEN, blocks(sent.frames))
    for altered in (DATA[:-1] + b"!", b"!" + DATA[1:]):
        with pytest.raises(DigestMismatch):
            await here.moving.receive(TOKEN, room.id, ID, 0, blocks(altered))
        with pytest.raises(RuleBroken, match="not here yet"):
            await here.moving.finish(TOKEN)
    await here.moving.receive(TOKEN, room.id, ID, 0, blocks(DATA[:5]))
    begun = await here.moving.upload(TOKEN, room.id, ID)
    assert isinstance(begun, Upload)
    assert begun.received == 5
    held = await here.moving.receive(TOKEN, room.id, ID, 5, blocks(DATA[5:]))
    assert held == await here.moving.upload(TOKEN, room.id, ID) == Held(begun.place, len(DATA), manifest(room), AT)
    assert await here.moving.receive(TOKEN, room.id, ID, 0, blocks(b"another")) == held
    await here.take(sent)


@pytest.mark.parametrize("by", ["ada", "eve"])
async def test_a_blob_that_is_not_its_owners_is_refused(here: Place, sent: Sent, room: RoomStory, by: str) -> None:
    sent.blobs = [blob_of(room, manifest(room, by))]
    assert "belongs to nobody" in await refusal(here, sent)
    sent.blobs = [blob_of(room, manifest(room, blob=b64u(bytes(32))))]
    assert "does not hold" in await refusal(here, sent)


async def test_the_records_come_first_and_the_end_last(here: Place, sent: Sent) -> None:
    steps = (
        lambda: here.moving.take_records(TOKEN, blocks(b"")),
        lambda: here.moving.take_messages(TOKEN, blocks(b"")),
        lambda: here.moving.upload(TOKEN, "a" * 26, NO_BLOB),
        lambda: here.moving.finish(TOKEN),
    )
    for step in steps:
        with pytest.raises(RuleBroken, match="begin again"):
            await step()
    await here.moving.take_manifest(TOKEN, blocks(sent.manifest()))
    for step in steps[1:]:
        with pytest.raises(RuleBroken, match="come before all else"):
            await step()
    await here.begin(sent)
    with pytest.raises(NotFound):
        await here.moving.upload(TOKEN, "a" * 26, NO_BLOB)
    with pytest.raises(RuleBroken, match="messages are not here yet"):
        await here.moving.finish(TOKEN)


async def test_two_that_send_the_same_do_no_harm(here: Place, sent: Sent, node: Node) -> None:
    await here.begin(sent)
    await here.moving.take_messages(TOKEN, blocks(sent.frames))
    done = await asyncio.gather(*(here.moving.finish(TOKEN) for _ in range(3)), return_exceptions=True)
    assert [error for error in done if not isinstance(error, UnibusError)]
    written = await here.node.written()
    assert len(written.pop("moves")) == 2
    assert written == await node.written()


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], "\udcff"])
async def test_without_the_token_nothing_is_told_or_taken(here: Place, sent: Sent, token: str) -> None:
    for step in (
        lambda: here.moving.look(token),
        lambda: here.moving.take_manifest(token, blocks(sent.manifest())),
        lambda: here.moving.take_records(token, blocks(b"")),
        lambda: here.moving.upload(token, "a" * 26, NO_BLOB),
        lambda: here.moving.receive(token, "a" * 26, NO_BLOB, 0, blocks(b"")),
        lambda: here.moving.take_messages(token, blocks(b"")),
        lambda: here.moving.finish(token),
    ):
        with pytest.raises(BootstrapRefused):
            await step()
    assert await here.node.written() == {}


async def test_a_bus_that_is_there_has_no_token(tmp_path: Path) -> None:
    async with place(tmp_path / "founded", token=None) as founded:
        with pytest.raises(BootstrapRefused):
            await founded.moving.look(TOKEN)


async def test_a_node_on_sqlite_takes_no_bus_in(tmp_path: Path) -> None:
    async with place(tmp_path / "alone", shared=False) as alone:
        with pytest.raises(RuleBroken, match="--store kv"):
            await alone.moving.look(TOKEN)
