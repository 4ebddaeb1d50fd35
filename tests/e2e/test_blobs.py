"""Blobs from end to end: stored by one, fetched by another; and who may ask for what over HTTP."""

import io
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest

from tests.builders import identity
from tests.e2e.blob_scene import Scene, blob_scene, names
from tests.e2e.conftest import StartNode
from unibus.client.blob_manifests import seal_manifest
from unibus.crypto.blobs import CHUNK
from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import sign
from unibus.errors import Forbidden, InvalidInput, NotFound, UnibusError
from unibus.model.blobs import BlobManifest
from unibus.model.wire import UploadView

SIZES = [0, 1, CHUNK, CHUNK + 1, 9_000_000]
SEALED = os.urandom(1000)
ID = b64u(sha256(SEALED).digest())


@pytest.fixture
async def scene(start_node: StartNode, data_dir: Path) -> AsyncIterator[Scene]:
    async with blob_scene(start_node, data_dir) as scene:
        yield scene


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["file", "stream"])
async def test_what_one_stores_another_fetches(scene: Scene, tmp_path: Path, size: int, form: str) -> None:
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    source = tmp_path / "source" if form == "file" else io.BytesIO(data)
    blob = await scene.rooms["ada"].put_blob(source, "report.pdf", media_type="application/pdf")
    (listed,) = await scene.rooms["bob"].blobs()
    assert (listed.id, listed.name, listed.size, listed.handle) == (blob, "report.pdf", size, "ada")
    assert listed.manifest.media_type == "application/pdf"
    assert await scene.rooms["bob"].get_blob(blob, tmp_path / "target") == listed
    assert (tmp_path / "target").read_bytes() == data
    assert names(tmp_path) == ["data", "source", "target"]
    on_disk = scene.place.bytes_on_disk()
    assert b"report.pdf" not in on_disk
    assert size < 100 or data[:100] not in on_disk
    await scene.rooms["ada"].delete_blob(blob)
    assert await scene.rooms["bob"].blobs() == []
    assert scene.kept() == []


async def test_two_blobs_of_the_same_bytes_are_different_blobs(scene: Scene) -> None:
    room = scene.rooms["ada"]
    assert await room.put_blob(io.BytesIO(b"same"), "a") != await room.put_blob(io.BytesIO(b"same"), "a")


async def test_the_list_goes_over_pages(scene: Scene) -> None:
    stored = {await scene.rooms["bob"].put_blob(io.BytesIO(b"x"), f"{n}") for n in range(5)}
    seen, after = [], ""
    while True:
        _, _, body = await scene.ask("rex", "GET", f"?limit=2{after}")
        page = json.loads(body)
        seen += [blob["id"] for blob in page["blobs"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == sorted(stored)
    assert [blob.name for blob in await scene.rooms["rex"].blobs()] == ["0", "1", "2", "3", "4"]


def begin(size: int = len(SEALED)) -> bytes:
    return json.dumps({"size": size}).encode()


UPLOAD = f"/{ID}/upload"
COMPLETE = json.dumps({"manifest": b64u(bytes(300))}).encode()
REQUESTS: list[tuple[str, str, bytes]] = [
    ("PUT", UPLOAD, begin()),
    ("GET", UPLOAD, b""),
    ("PATCH", f"{UPLOAD}?offset=0", SEALED),
    ("POST", UPLOAD, COMPLETE),
    ("DELETE", UPLOAD, b""),
    ("GET", "", b""),
    ("GET", f"/{ID}", b""),
    ("HEAD", f"/{ID}", b""),
    ("GET", f"/{ID}/info", b""),
    ("DELETE", f"/{ID}", b""),
]


async def test_who_is_not_in_the_room_finds_nothing(scene: Scene) -> None:
    blob = await scene.rooms["ada"].put_blob(io.BytesIO(b"there"), "there")
    before = scene.kept()
    for method, what, body in REQUESTS:
        for known in (what, what.replace(ID, blob)):
            with pytest.raises(UnibusError) as refused:
                await scene.ask("eve", method, known, body)
            # An answer to HEAD has no body that could say more.
            if method != "HEAD":
                assert (known, refused.value.message) == (known, "there is no such room for you")
    assert scene.kept() == before


async def test_a_reader_stores_nothing(scene: Scene) -> None:
    for method, what, body in REQUESTS[:5]:
        with pytest.raises(Forbidden):
            await scene.ask("rex", method, what, body)
    with pytest.raises(Forbidden):
        await scene.rooms["rex"].put_blob(io.BytesIO(b"x"), "x")
    assert scene.kept() == []


BAD: list[tuple[str, str, bytes, str]] = [
    ("PUT", UPLOAD, begin(15), "invalid-input"),
    ("PUT", UPLOAD, begin(-1), "invalid-input"),
    ("PUT", UPLOAD, begin(2**60), "invalid-input"),
    ("PUT", UPLOAD, begin(11 * 2**30), "too-large"),
    ("PUT", UPLOAD, b'{"size": "1000"}', "invalid-input"),
    ("PUT", UPLOAD, b"\x00", "invalid-input"),
    ("PUT", UPLOAD, begin(999), "upload-conflict"),
    ("PUT", "/..%2F..%2Fx/upload", begin(), "invalid-input"),
    ("PUT", f"/{ID[:-1]}%0A/upload", begin(), "invalid-input"),
    ("PUT", f"/{ID}A/upload", begin(), "invalid-input"),
    ("PUT", "/%2e%2e/upload", begin(), "invalid-input"),
    ("GET", "/%00", b"", "invalid-input"),
    ("PATCH", UPLOAD, SEALED, "invalid-input"),
    ("PATCH", f"{UPLOAD}?offset=-1", SEALED, "invalid-input"),
    ("PATCH", f"{UPLOAD}?offset=1e3", SEALED, "invalid-input"),
    ("PATCH", f"{UPLOAD}?offset={'9' * 1000}", SEALED, "invalid-input"),
    ("PATCH", f"{UPLOAD}?offset={'9' * 16}", SEALED, "invalid-input"),
    ("PATCH", f"{UPLOAD}?offset=1", SEALED, "upload-conflict"),
    ("PATCH", f"{UPLOAD}?offset=1000", SEALED, "upload-conflict"),
    ("PATCH", f"{UPLOAD}?offset=0", SEALED + b"x", "too-large"),
    ("PATCH", f"{UPLOAD}?offset=0", bytes(8 * 2**20 + 1), "too-large"),
    ("PATCH", f"{UPLOAD}?offset=0", b"", "signature-invalid"),
    ("PATCH", f"/{b64u(bytes(32))}/upload?offset=0", SEALED, "not-found"),
    ("POST", UPLOAD, COMPLETE, "invalid-input"),
    ("POST", UPLOAD, b'{"manifest": "="}', "invalid-input"),
    ("POST", UPLOAD, json.dumps({"manifest": "A" * 9000}).encode(), "too-large"),
    ("GET", f"/{ID}", b"", "not-found"),
    ("GET", f"/{ID}/info", b"", "not-found"),
    ("DELETE", f"/{ID}", b"", "not-found"),
    ("GET", "?limit=-1", b"", "invalid-input"),
    ("GET", "?after=..", b"", "invalid-input"),
]


async def test_bad_requests_of_a_member_change_nothing(scene: Scene) -> None:
    await scene.ask("bob", "PUT", UPLOAD, begin())
    before = scene.kept()
    for method, what, body, code in BAD:
        with pytest.raises(UnibusError) as refused:
            await scene.ask("bob", method, what, body)
        assert (method, what, body[:40], refused.value.code) == (method, what, body[:40], code)
    assert scene.kept() == before
    _, _, answer = await scene.ask("bob", "GET", UPLOAD)
    assert UploadView.model_validate_json(answer) == UploadView(offset=0, size=len(SEALED), stored=False)


async def test_a_part_that_is_not_the_signed_one_does_not_count(scene: Scene) -> None:
    await scene.ask("bob", "PUT", UPLOAD, begin())
    bus, url = scene.buses["bob"], f"{scene.place.url}/v1/rooms/{scene.room}/blobs{UPLOAD}?offset=0"
    signed = sign(
        identity("bob").signing, "PATCH", url, SEALED, bus=bus.id, created=int(time.time()), nonce=b64u(os.urandom(16))
    )
    async with aiohttp.ClientSession() as session:
        for status, code in ((401, "signature-invalid"), (401, "nonce-replayed")):
            async with session.patch(url, data=SEALED[::-1], headers=signed) as answer:
                assert answer.status == status
                assert (await answer.json(content_type=None))["type"].endswith(code)
    await scene.ask("bob", "PATCH", f"{UPLOAD}?offset=0", SEALED)


async def test_a_part_that_its_address_names_needs_no_other_digest(scene: Scene) -> None:
    await scene.ask("bob", "PUT", UPLOAD, begin())
    bus, half = scene.buses["bob"], len(SEALED) // 2

    async def patch(offset: int, through: str, body: bytes, *, sent_to: str | None = None) -> tuple[int, str]:
        url = f"{scene.place.url}/v1/rooms/{scene.room}/blobs{UPLOAD}?offset={offset}&through={through}"
        signed = sign(
            identity("bob").signing, "PATCH", url, b"", bus=bus.id, created=int(time.time()), nonce=b64u(os.urandom(16))
        )
        async with (
            aiohttp.ClientSession() as session,
            session.patch((sent_to or url), data=body, headers=signed) as answer,
        ):
            told = await answer.json(content_type=None)
            return answer.status, told["type"].rpartition("/")[2].rpartition(":")[2] if "type" in told else ""

    first, all_of_it = (b64u(sha256(data).digest()) for data in (SEALED[:half], SEALED))
    for body in (SEALED[:half][::-1], SEALED[: half - 1], b"", SEALED):
        assert await patch(0, first, body) == (422, "digest-mismatch")
    other = f"{scene.place.url}/v1/rooms/{scene.room}/blobs{UPLOAD}?offset=0&through={all_of_it}"
    assert await patch(0, first, SEALED, sent_to=other) == (401, "signature-invalid")
    assert await patch(0, first, SEALED, sent_to=other.partition("&")[0]) == (401, "signature-invalid")
    assert await patch(0, "A", SEALED[:half]) == (422, "digest-mismatch")
    assert (await patch(0, first, SEALED[:half]))[0] == 200
    # The digest of the part alone says nothing of what came before it.
    assert await patch(half, b64u(sha256(SEALED[half:]).digest()), SEALED[half:]) == (422, "digest-mismatch")
    assert (await patch(half, all_of_it, SEALED[half:]))[0] == 200
    _, _, view = await scene.ask("bob", "GET", UPLOAD)
    assert UploadView.model_validate_json(view).offset == len(SEALED)


async def test_a_total_that_is_not_the_id_leaves_nothing(scene: Scene) -> None:
    blob = b64u(bytes(32))
    await scene.ask("bob", "PUT", f"/{blob}/upload", begin())
    await scene.ask("bob", "PATCH", f"/{blob}/upload?offset=0", SEALED)
    room = scene.rooms["bob"]
    bus = scene.buses["bob"]
    key = await bus.keyring.key(room.state, 1)
    made = BlobManifest(name="x", size=1, key=b64u(bytes(32)))
    sealed = seal_manifest(blob, made, identity("bob").signing, key, room.state, bus.directory, time.time())
    with pytest.raises(UnibusError) as refused:
        await scene.ask("bob", "POST", f"/{blob}/upload", json.dumps({"manifest": b64u(sealed)}).encode())
    assert refused.value.code == "digest-mismatch"
    assert scene.kept() == []


async def test_conditions_and_ranges_over_http(scene: Scene) -> None:
    blob = await scene.rooms["ada"].put_blob(io.BytesIO(b"x" * 100), "x")
    whole = scene.held(blob).joinpath("data").read_bytes()
    status, headers, body = await scene.ask("bob", "GET", f"/{blob}")
    assert (status, body, headers["ETag"], headers["Accept-Ranges"]) == (200, whole, f'"{blob}"', "bytes")
    status, headers, body = await scene.ask("bob", "GET", f"/{blob}", headers={"Range": "bytes=5-9"})
    assert (status, body, headers["Content-Range"]) == (206, whole[5:10], f"bytes 5-9/{len(whole)}")
    status, headers, body = await scene.ask("bob", "HEAD", f"/{blob}")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(len(whole)))
    for refused, wanted in ((304, {"If-None-Match": f'"{blob}"'}), (416, {"Range": f"bytes={len(whole)}-"})):
        url = f"{scene.place.url}/v1/rooms/{scene.room}/blobs/{blob}"
        signed = sign(
            identity("bob").signing,
            "GET",
            url,
            b"",
            bus=scene.buses["bob"].id,
            created=int(time.time()),
            nonce=b64u(os.urandom(16)),
        )
        async with aiohttp.ClientSession() as session, session.get(url, headers=signed | wanted) as answer:
            assert answer.status == refused
            assert refused != 416 or answer.headers["Content-Range"] == f"bytes */{len(whole)}"


async def test_who_was_removed_fetches_and_stores_nothing_more(scene: Scene, tmp_path: Path) -> None:
    blob = await scene.rooms["ada"].put_blob(io.BytesIO(b"x"), "x")
    room = scene.rooms["bob"]
    await scene.rooms["ada"].remove("bob")
    attempts: list[Awaitable[object]] = [
        room.get_blob(blob, tmp_path / "target"),
        room.put_blob(io.BytesIO(b"x"), "y"),
        room.blobs(),
        room.delete_blob(blob),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound):
            await attempt
    later = await scene.rooms["ada"].put_blob(io.BytesIO(b"y"), "y")
    assert [found.name for found in await scene.rooms["rex"].blobs()] == ["x", "y"]
    assert (await scene.rooms["rex"].blob(later)).handle == "ada"


async def test_an_unknown_blob_is_an_unknown_blob(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such blob"):
        await scene.rooms["bob"].get_blob(ID, tmp_path / "target")
    with pytest.raises(InvalidInput):
        await scene.rooms["bob"].get_blob("../x", tmp_path / "target")
