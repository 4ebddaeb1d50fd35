"""A signed request is taken once, also by a daemon that has been killed and started again since."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.builders import identity
from tests.e2e.conftest import StartDaemon
from tests.support.people import Place
from unibus.crypto import httpsig
from unibus.crypto.encoding import b64u
from unibus.model.wire import AppendRequest


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Callable[[dict[str, str]], Awaitable[tuple[int, str]]]]:
    """Sends a request with the headers that it is given; its status, and the problem's code."""
    async with aiohttp.ClientSession() as session:

        async def outcome(headers: dict[str, str]) -> tuple[int, str]:
            async with session.get(url, headers=headers) as response:
                found = await response.json(content_type=None)
                return response.status, found.get("type", "").rpartition(":")[2]

        yield outcome


def signing(url: str, bus: str) -> Callable[[int], dict[str, str]]:
    """The headers of a request of ada's with the nonce of that number."""

    def signed(nonce: int) -> dict[str, str]:
        key, now = identity("ada").signing, int(time.time())
        return httpsig.sign(key, "GET", url, b"", bus=bus, created=now, nonce=b64u(bytes([nonce]) * 16))

    return signed


async def test_a_nonce_is_remembered_through_a_kill(start_daemon: StartDaemon, data_dir: Path) -> None:
    daemon = await start_daemon()
    place = Place(daemon.url, data_dir)
    await place.found()
    async with place.enter("ada") as ada:
        bus = ada.id
    url = f"{daemon.url}/v1/directory/records?after=0"
    signed = signing(url, bus)
    async with asking(url) as outcome:
        captured = signed(1)
        assert await outcome(captured) == (200, "")
        assert await outcome(captured) == (401, "nonce-replayed")
        await daemon.kill()
        await start_daemon(f"--http-bind=127.0.0.1:{daemon.http_port}")
        assert await outcome(captured) == (401, "nonce-replayed")
        assert await outcome(signed(2)) == (200, "")


async def test_a_refused_append_has_spent_its_nonce(start_daemon: StartDaemon, data_dir: Path) -> None:
    daemon = await start_daemon()
    place = Place(daemon.url, data_dir)
    await place.found()
    async with place.enter("ada") as ada:
        room = await ada.create_room("plans")
        # Whoever repeats it later, when the record might stand, must not succeed with it.
        body = AppendRequest(record="no.record.this", sealed={}).model_dump_json().encode()
        url = f"{daemon.url}/v1/rooms/{room.id}/records"
        key, now = identity("ada").signing, int(time.time())
        headers = httpsig.sign(key, "POST", url, body, bus=ada.id, created=now, nonce=b64u(bytes(16)))
    async with aiohttp.ClientSession() as session:
        codes = []
        for _ in range(3):
            async with session.post(url, headers=headers, data=body) as response:
                codes.append((await response.json(content_type=None))["type"].rpartition(":")[2])
            if len(codes) == 2:
                await daemon.kill()
                await start_daemon(f"--http-bind=127.0.0.1:{daemon.http_port}")
    assert codes == ["malformed-record", "nonce-replayed", "nonce-replayed"]


async def test_who_repeats_what_they_overheard_does_not_use_up_what_its_signer_may_ask(
    start_daemon: StartDaemon, data_dir: Path
) -> None:
    daemon = await start_daemon("--rate-per-user=1")
    place = Place(daemon.url, data_dir)
    await place.found()
    async with place.enter("ada") as ada:
        bus = ada.id
    url = f"{daemon.url}/v1/directory/records?after=0"
    signed = signing(url, bus)
    async with asking(url) as outcome:
        captured = signed(1)
        assert await outcome(captured) == (200, "")
        replays = [await outcome(captured) for _ in range(30)]
        assert replays == [(401, "nonce-replayed")] * 30
        assert await outcome(signed(2)) == (200, "")
