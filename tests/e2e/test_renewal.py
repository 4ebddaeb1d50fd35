"""SIGHUP takes up a renewed certificate on both planes, and nobody who is connected notices."""

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from nats.aio.client import Client as Nats

from tests.builders import identity
from tests.e2e.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.people import WAIT, tail
from tests.support.pki import Authority
from tests.support.processes import kill_nats_server
from unibus import Room, connect
from unibus.client.connection import Client
from unibus.client.founding import found_bus
from unibus.client.health import fetch_health
from unibus.client.trust import make_context
from unibus.model.subjects import inbox_prefix

ADA = identity("ada")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
async def daemon(start_daemon: StartDaemon, authority: Authority) -> Daemon:
    chain, key = authority.server()
    websocket = "--nats-ws-bind", "127.0.0.1:0"
    daemon = await start_daemon("--tls-cert", str(chain), "--tls-key", str(key), *websocket)
    token = (daemon.data_dir / "bootstrap-token").read_text().strip()
    await found_bus(at(daemon), ADA, token, "ada", tls=make_context(authority.ca))
    return daemon


def at(daemon: Daemon) -> str:
    return f"https://127.0.0.1:{daemon.http_port}"


async def shown(port: int, trust: ssl.SSLContext) -> bytes:
    """The certificate that whoever connects to `port` now is shown, in DER."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    certificate = found.getpeercert(binary_form=True)
    writer.transport.abort()
    assert certificate is not None
    return certificate


async def on_all_listeners(daemon: Daemon, trust: ssl.SSLContext) -> list[bytes]:
    health = await fetch_health(at(daemon), 5, trust)
    websocket = int(str(health["bus"]["websocket"]).rpartition(":")[2])
    return [await shown(port, trust) for port in (daemon.http_port, daemon.nats_port, websocket)]


@asynccontextmanager
async def stock_client(daemon: Daemon, trust: ssl.SSLContext) -> AsyncIterator[tuple[Nats, asyncio.Event]]:
    """A NATS client with nothing of ours but the login, and what tells that its connection has ended."""
    client, ended = Client(ADA.signing), asyncio.Event()

    async def end() -> None:
        ended.set()

    await client.connect(
        f"tls://127.0.0.1:{daemon.nats_port}",
        signature_cb=client.prove,
        tls=trust,
        inbox_prefix=inbox_prefix(ADA.user).encode(),
        allow_reconnect=False,
        disconnected_cb=end,
    )
    try:
        yield client, ended
    finally:
        await client.close()


@asynccontextmanager
async def talking(room: Room) -> AsyncIterator[list[str]]:
    """Sends without a pause; the list grows by what was acknowledged."""
    sent: list[str] = []

    async def talk() -> None:
        while True:
            await room.send(f"word {len(sent)}")
            sent.append(f"word {len(sent)}")

    task = asyncio.create_task(talk())
    try:
        yield sent
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def renewals(daemon: Daemon, event: str, count: int) -> None:
    """Return once the log has `count` entries called `event`."""
    async with asyncio.timeout(WAIT):
        while sum(entry["event"] == event for entry in daemon.log) < count:  # noqa: ASYNC110 - another process's log
            await asyncio.sleep(0.02)


async def test_new_handshakes_see_the_new_certificate_and_no_connection_ends(
    daemon: Daemon, authority: Authority
) -> None:
    trust = make_context(authority.ca)
    before = await on_all_listeners(daemon, trust)
    async with asyncio.timeout(2 * WAIT), connect(at(daemon), ADA, tls=trust) as ada:
        room = await ada.create_room("ops")
        async with stock_client(daemon, trust) as (client, ended), tail(room) as reading, talking(room) as sent:
            await reading.until(5)
            first = await ada.link.connection()
            after = before
            for count in (1, 2, 3):
                authority.server()  # over the same files
                daemon.process.send_signal(signal.SIGHUP)
                await renewals(daemon, "certificate renewed", count)
                earlier, after = after, await on_all_listeners(daemon, trust)
                assert len(set(earlier) | set(after)) == 2  # one certificate for all listeners, then another
                await reading.until(len(sent) + 5)
            assert await ada.link.connection() is first
            assert not first.gone.is_set()
            assert not ended.is_set()
            await client.flush(5)
        assert reading.texts[: len(sent)] == sent
        assert reading.refused == []
    assert (await fetch_health(at(daemon), 5, trust))["bus"]["restarts"] == 0


async def test_a_removal_still_cuts_a_connection_from_before(daemon: Daemon, authority: Authority) -> None:
    trust = make_context(authority.ca)
    async with asyncio.timeout(2 * WAIT), connect(at(daemon), ADA, tls=trust) as ada:
        bob = identity("bob")
        await ada.admit("bob", bob.card())
        room = await ada.create_room("ops")
        await room.add("bob")
        async with connect(at(daemon), bob, tls=trust) as his:
            connection = await his.link.connection((await his.room("ops")).id)
            authority.server()
            daemon.process.send_signal(signal.SIGHUP)
            await renewals(daemon, "certificate renewed", 1)
            assert not connection.gone.is_set()
            await ada.revoke("bob")
            await connection.gone.wait()


async def test_a_wrong_pair_is_kept_out_and_named_until_a_right_one_comes(daemon: Daemon, authority: Authority) -> None:
    trust = make_context(authority.ca)
    before = await on_all_listeners(daemon, trust)
    authority.server(lasts=timedelta(hours=-1))
    daemon.process.send_signal(signal.SIGHUP)
    assert "has expired" in str((await daemon.heard("certificate not renewed"))["reason"])
    assert await on_all_listeners(daemon, trust) == before
    health = await fetch_health(at(daemon), 5, trust)
    assert health["status"] == "degraded"
    assert any("the certificate was not renewed" in reason for reason in health["reasons"])
    authority.server()
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.heard("certificate renewed")
    assert (await fetch_health(at(daemon), 5, trust))["status"] == "ok"


async def test_a_restarted_server_shows_the_certificate_that_was_checked(daemon: Daemon, authority: Authority) -> None:
    trust = make_context(authority.ca)
    before = await on_all_listeners(daemon, trust)
    (authority.home / "server.key").write_text("half written")
    kill_nats_server(daemon.data_dir)
    await daemon.heard("nats-server is back")
    assert await on_all_listeners(daemon, trust) == before


async def test_a_certificate_that_ends_within_days_is_told(start_daemon: StartDaemon, authority: Authority) -> None:
    chain, key = authority.server(lasts=timedelta(days=6))
    daemon = await start_daemon("--tls-cert", str(chain), "--tls-key", str(key))
    health = await fetch_health(at(daemon), 5, make_context(authority.ca))
    assert health["status"] == "degraded"
    assert any(reason.startswith("the certificate expires on") for reason in health["reasons"])


async def test_a_hangup_without_certificates_changes_nothing(start_daemon: StartDaemon) -> None:
    daemon = await start_daemon()
    daemon.process.send_signal(signal.SIGHUP)
    await daemon.heard("nothing to renew: there is no certificate")
    assert (await fetch_health(daemon.url, 5))["status"] == "ok"
