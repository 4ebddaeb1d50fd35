"""Who leaves a running daemon in the middle of a download or an upload: that is no failure, and no line in its log."""

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.builders import identity
from tests.http.serving import raw
from tests.support.daemon import Daemon, spawn
from tests.support.people import Place

from unibus.crypto import httpsig
from unibus.crypto.encoding import b64u

SIZE = 16 * 2**20


@dataclass
class Scene:
    """A daemon with a blob of `SIZE` bytes, whose address is `target`."""

    daemon: Daemon
    bus: str
    target: str

    async def leave(self, method: str, target: str, body: bytes = b"", *, lacks: int = 0, takes: int = 0) -> bytes:
        """Send a request of ada's whose body `lacks` some, and is only signed if it does not; take some, and go."""
        host = f"127.0.0.1:{self.daemon.http_port}"
        key, now, nonce = identity("ada").signing, int(time.time()), b64u(os.urandom(16))
        uri, digested = f"http://{host}{target}", b"" if lacks else body
        signed = httpsig.sign(key, method, uri, digested, bus=self.bus, created=now, nonce=nonce)
        length = [("Content-Length", str(len(body) + lacks))] if body else []
        reader, writer = await asyncio.open_connection("127.0.0.1", self.daemon.http_port)
        writer.write(raw(method, target, [("Host", host), *signed.items(), *length], body))
        await writer.drain()
        taken = await reader.readexactly(takes)
        writer.transport.abort()
        return taken

    async def statuses(self, route: str) -> set[str]:
        """With which statuses requests of that route have ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.daemon.http_port)
        writer.write(raw("GET", "/metrics", [("Host", "h"), ("Connection", "close")]))
        text = (await reader.read()).decode()
        writer.close()
        counted = rf'^unibus_http_requests_total\{{route="{re.escape(route)}",status="(\d+)"\}}'
        return set(re.findall(counted, text, re.MULTILINE))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    data_dir, source = tmp_path / "data", tmp_path / "source"
    source.write_bytes(bytes(SIZE))
    daemon = Daemon(await spawn(data_dir), data_dir)
    try:
        await daemon.ready()
        place = Place(daemon.url, data_dir)
        await place.found()
        async with place.enter("ada") as ada:
            room = await ada.create_room("ops")
            blob = await room.put_blob(source, "source")
            yield Scene(daemon, ada.id, f"/v1/rooms/{room.id}/blobs/{blob}")
    finally:
        await daemon.stop()


async def test_who_leaves_a_download_counts_as_gone(scene: Scene) -> None:
    await scene.leave("GET", scene.target, takes=1000)
    async with asyncio.timeout(20):
        while not (ended := await scene.statuses("/v1/rooms/{room}/blobs/{blob}")):  # noqa: ASYNC110 - another side's count is no event
            await asyncio.sleep(0.05)
    assert ended == {"499"}
    assert [entry for entry in scene.daemon.log if entry["level"] != "info"] == []


async def test_who_leaves_an_upload_is_no_failure_either(scene: Scene) -> None:
    upload = f"{scene.target[:-43]}{b64u(bytes(32))}/upload"
    begun = b"HTTP/1.1 200 OK"
    assert await scene.leave("PUT", upload, b'{"size": 4194304}', takes=len(begun)) == begun
    await scene.leave("PATCH", f"{upload}?offset=0&through={b64u(bytes(32))}", bytes(2**20), lacks=2**20)
    async with asyncio.timeout(20):
        while not (ended := await scene.statuses("/v1/rooms/{room}/blobs/{blob}/upload") - {"200", "201"}):  # noqa: ASYNC110 - another's count is no event
            await asyncio.sleep(0.05)
    assert ended == {"400"}
    assert [entry for entry in scene.daemon.log if entry["level"] != "info"] == []
