"""Blobs from end to end, where somebody lies: a server, a member, or whoever can write where a blob is fetched to."""

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.builders import identity
from tests.e2e.blob_scene import Scene, blob_scene, names
from tests.e2e.conftest import StartNode
from unibus.client.messages import Refusal
from unibus.crypto.blobs import CHUNK, SEALED_CHUNK, seal_chunks
from unibus.errors import BlobInvalid, InvalidInput, NotFound


@pytest.fixture
async def scene(start_node: StartNode, data_dir: Path) -> AsyncIterator[Scene]:
    async with blob_scene(start_node, data_dir) as scene:
        yield scene


Lie = Callable[[Path, Path], None]


def flip(at: int) -> Lie:
    def lie(data: Path, _other: Path) -> None:
        raw = bytearray(data.joinpath("data").read_bytes())
        raw[at] ^= 1
        data.joinpath("data").write_bytes(raw)

    return lie


def cut(by: int) -> Lie:
    def lie(blob: Path, _other: Path) -> None:
        os.truncate(blob / "data", (blob / "data").stat().st_size - by)
        resized(blob)

    return lie


def extend(blob: Path, _other: Path) -> None:
    with (blob / "data").open("ab") as file:
        file.write(b"x")
    resized(blob)


def other_bytes(blob: Path, other: Path) -> None:
    (blob / "data").write_bytes((other / "data").read_bytes())
    resized(blob)


def swap_manifests(blob: Path, other: Path) -> None:
    (blob / "meta").write_bytes((other / "meta").read_bytes())


def other_uploader(blob: Path, _other: Path) -> None:
    meta = json.loads((blob / "meta").read_bytes())
    (blob / "meta").write_text(json.dumps(meta | {"owner": identity("rex").user}))


def resized(blob: Path) -> None:
    meta = json.loads((blob / "meta").read_bytes())
    (blob / "meta").write_text(json.dumps(meta | {"size": (blob / "data").stat().st_size}))


@pytest.mark.parametrize(
    ("lie", "name"),
    [
        (flip(0), "altered: its chunk 0"),
        (flip(SEALED_CHUNK), "altered: its chunk 1"),
        (flip(-1), "altered: its chunk 2"),
        (cut(1), "another size"),
        (cut(SEALED_CHUNK), "another size"),
        (extend, "another size"),
        (other_bytes, "altered"),
        (swap_manifests, "altered or swapped"),
        (other_uploader, "somebody else"),
    ],
    ids=["first", "middle", "last", "cut", "cut by a chunk", "extended", "other", "manifest swapped", "uploader"],
)
async def test_a_server_that_lies_is_named_and_leaves_no_file(
    scene: Scene, tmp_path: Path, lie: Lie, name: str
) -> None:
    room = scene.rooms["ada"]
    blob = await room.put_blob(io.BytesIO(os.urandom(3 * CHUNK)), "a")
    other = await room.put_blob(io.BytesIO(os.urandom(3 * CHUNK)), "b")
    lie(scene.held(blob), scene.held(other))
    with pytest.raises(BlobInvalid, match=name):
        await scene.rooms["bob"].get_blob(blob, tmp_path / "target")
    assert names(tmp_path) == ["data"]
    refused: list[Refusal] = []
    listed = await scene.rooms["bob"].blobs(on_refused=refused.append)
    assert len(listed) + len(refused) == 2
    assert other in {found.id for found in listed}


async def test_a_member_who_gives_two_contents_one_id_is_noticed(scene: Scene, tmp_path: Path) -> None:
    # Whoever has the key can seal other bytes that open; with a server's help they would stand under the same id.
    blob = await scene.rooms["ada"].put_blob(io.BytesIO(b"pay bob"), "order")
    key = (await scene.rooms["ada"].blob(blob)).key
    scene.held(blob).joinpath("data").write_bytes(seal_chunks(key, b"pay eve", 0, ends=True))
    with pytest.raises(BlobInvalid, match="not the blob of that id"):
        await scene.rooms["bob"].get_blob(blob, tmp_path / "target")
    assert names(tmp_path) == ["data"]


async def test_a_blob_of_another_room_is_not_of_this_one(scene: Scene) -> None:
    blob = await scene.rooms["ada"].put_blob(io.BytesIO(b"x"), "x")
    second = await scene.buses["ada"].create_room("second")
    with pytest.raises(NotFound):
        await second.blob(blob)
    held = scene.held(blob)
    (held.parent.parent / second.id).mkdir()
    held.rename(held.parent.parent / second.id / blob)
    with pytest.raises(BlobInvalid, match="swapped"):
        await second.blob(blob)


async def test_no_file_is_written_over(scene: Scene, tmp_path: Path) -> None:
    blob = await scene.rooms["ada"].put_blob(io.BytesIO(b"new"), "x")
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("target", "link", "data", "missing/target"):
        with pytest.raises(InvalidInput):
            await scene.rooms["bob"].get_blob(blob, tmp_path / name)
    assert (tmp_path / "target").read_bytes() == b"old"
    assert not (tmp_path / "nowhere").exists()


def plant_link(place: Path, precious: Path) -> None:
    place.symlink_to(precious)


def plant_second_name(place: Path, precious: Path) -> None:
    place.hardlink_to(precious)


def plant_pipe(place: Path, _precious: Path) -> None:
    os.mkfifo(place)


@pytest.mark.parametrize("plant", [plant_link, plant_second_name, plant_pipe])
async def test_what_was_planted_for_the_unfinished_file_is_refused(scene: Scene, tmp_path: Path, plant: Lie) -> None:
    blob = await scene.rooms["ada"].put_blob(io.BytesIO(b"secret"), "x")
    (tmp_path / "precious").write_bytes(b"precious")
    plant(tmp_path / f".target.{blob[:16]}.part", tmp_path / "precious")
    with pytest.raises(InvalidInput):
        await scene.rooms["bob"].get_blob(blob, tmp_path / "target")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert "target" not in names(tmp_path)


async def test_two_fetch_to_one_place_and_one_does(scene: Scene, tmp_path: Path) -> None:
    data = os.urandom(2_000_000)
    blob = await scene.rooms["ada"].put_blob(io.BytesIO(data), "x")
    fetching = (scene.rooms[who].get_blob(blob, tmp_path / "target") for who in ("ada", "bob", "rex"))
    outcomes = await asyncio.gather(*fetching, return_exceptions=True)
    assert sum(isinstance(outcome, InvalidInput) for outcome in outcomes) == 2
    assert (tmp_path / "target").read_bytes() == data
