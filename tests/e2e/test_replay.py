"""A signed request is taken once, also by a daemon that has been killed and started again since."""

import asyncio
import resource
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp

from tests.builders import identity
from tests.e2e.conftest import StartDaemon
from tests.support.people import Place
from unibus.client.backup import fetch_backup
from unibus.crypto import httpsig
from unibus.crypto.encoding import b64u
from unibus.crypto.httpsig import NONCE_HEADER
from unibus.daemon.data_dir import STORE
from unibus.daemon.restore import restore
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


def signing(url: str, bus: str, given: str | None = None, ahead: int = 0) -> Callable[[int], dict[str, str]]:
    """The headers of a request of ada's with the nonce of that number, and the one that its node gave.

    Her clock is so many seconds `ahead`.
    """

    def signed(nonce: int) -> dict[str, str]:
        key, now, own = identity("ada").signing, int(time.time()) + ahead, b64u(bytes([nonce]) * 16)
        return httpsig.sign(key, "GET", url, b"", bus=bus, created=now, nonce=own, server_nonce=given)

    return signed


async def given(url: str) -> str:
    """The nonce that the node at `url` gives out, to a stranger too."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.headers[NONCE_HEADER]


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


async def test_a_node_that_was_killed_knows_no_nonce_of_its_own_any_more(
    start_daemon: StartDaemon, data_dir: Path
) -> None:
    daemon = await start_daemon()
    place = Place(daemon.url, data_dir)
    await place.found()
    url = f"{daemon.url}/v1/directory/records?after=0"
    async with place.enter("ada") as ada, asking(url) as outcome:
        signed = signing(url, ada.id, await given(url))
        captured, kept_back = signed(1), signed(2)
        assert await outcome(captured) == (200, "")
        assert await outcome(captured) == (401, "nonce-replayed")
        await daemon.kill()
        await start_daemon(f"--http-bind=127.0.0.1:{daemon.http_port}")
        for overheard in (captured, kept_back):
            assert await outcome(overheard) == (401, "nonce-unknown")
        # Who uses the library notices nothing, although it signs with the nonce of before.
        assert await ada.users()
        assert await outcome(signing(url, ada.id, await given(url))(1)) == (200, "")


async def test_the_library_leaves_no_claim_on_the_disk(start_daemon: StartDaemon, data_dir: Path) -> None:
    place = Place((await start_daemon()).url, data_dir)
    await place.found("bob")
    async with place.enter("bob") as bob:
        for _ in range(20):
            await bob.users()
        url = f"{place.url}/v1/directory/records?after=0"
        async with asking(url) as outcome:
            assert await outcome(signing(url, bob.id)(1)) == (200, "")
    with closing(sqlite3.connect(f"file:{data_dir / STORE}?mode=ro", uri=True)) as db:
        found = [
            name.decode().split("/")[1]
            for (name,) in db.execute("SELECT name FROM claims WHERE CAST(name AS TEXT) LIKE 'nonce/%'")
        ]
    assert found == [identity("ada").user]  # of the one that was signed by hand


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


async def test_a_request_under_a_nonce_of_before_a_restore_is_taken_by_no_restored_bus(
    start_daemon: StartDaemon, data_dir: Path, tmp_path: Path
) -> None:
    daemon = await start_daemon()
    place = Place(daemon.url, data_dir)
    await place.found()
    async with place.enter("ada") as ada:
        await fetch_backup(ada, tmp_path / "backup", lambda *_: None)
        bus = ada.id
    url = f"{daemon.url}/v1/directory/records?after=0"
    # The floor under what is taken after a restore is below what a fast clock signs: only the nonce stands in its way.
    signed = signing(url, bus, await given(url), ahead=httpsig.WINDOW - 20)
    async with asking(url) as outcome:
        captured, kept_back = signed(1), signed(2)
        assert await outcome(captured) == (200, "")
        assert await daemon.stop() == 0
        await asyncio.to_thread(data_dir.rename, tmp_path / "before")
        earlier = time.time() - httpsig.WINDOW + 1  # requests are taken again a second from now
        await restore(tmp_path / "backup", data_dir, nats_server=None, clock=lambda: earlier, progress=lambda *_: None)
        await start_daemon(f"--http-bind=127.0.0.1:{daemon.http_port}")
        while (answer := await outcome(captured)) == (503, "just-restored"):  # noqa: ASYNC110 - only the clock tells
            await asyncio.sleep(0.1)
        assert answer == await outcome(kept_back) == (401, "nonce-unknown")
        assert await outcome(signing(url, bus, await given(url), ahead=20)(1)) == (200, "")


async def test_a_signed_read_is_answered_on_a_full_disk_and_taken_once(
    start_daemon: StartDaemon, data_dir: Path
) -> None:
    daemon = await start_daemon()
    await Place(daemon.url, data_dir).found()
    url = f"{daemon.url}/v1/directory/records?after=0"
    async with Place(daemon.url, data_dir).enter("ada") as ada, asking(url) as outcome:
        signed, by_hand = signing(url, ada.id, await given(url)), signing(url, ada.id)
        pid = daemon.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))  # no file takes one more byte
        assert await outcome(by_hand(1)) == (503, "storage-unavailable")
        assert [await outcome(signed(1)) for _ in range(2)] == [(200, ""), (401, "nonce-replayed")]
        assert [user.handle for user in await ada.users()] == ["ada"]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
        # A claim that was refused a place on the disk is not half there.
        assert [await outcome(by_hand(2)) for _ in range(2)] == [(200, ""), (401, "nonce-replayed")]
        await daemon.kill()
        await start_daemon(f"--http-bind=127.0.0.1:{daemon.http_port}")
        assert await outcome(signed(1)) == (401, "nonce-unknown")
        assert await outcome(by_hand(2)) == (401, "nonce-replayed")
        assert [user.handle for user in await ada.users()] == ["ada"]
