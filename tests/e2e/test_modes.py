"""The weaker modes: they work, they let strangers in as they say, they say so to whoever asks, and warn names it."""

import asyncio
from typing import Any

import aiohttp
import nats
import pytest

from tests.builders import identity
from tests.e2e.conftest import StartDaemon
from tests.support.daemon import Daemon
from tests.support.people import WAIT, Place, tail
from unibus.client.connection import Client
from unibus.errors import NotFound


async def posture(place: Place) -> dict[str, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"{place.url}/healthz") as response:
        found: dict[str, Any] = await response.json()
        return found


async def the_main_job(place: Place) -> None:
    """Messages both ways, and a removal after which nothing new can be read."""
    await place.found("bob")
    async with asyncio.timeout(WAIT), place.enter("ada") as ada, place.enter("bob") as bob:
        room = await ada.create_room("ops")
        await room.add("bob")
        hers = await bob.room("ops")
        async with tail(room) as at_ada, tail(hers) as at_bob:
            await room.send("one")
            await hers.send("two")
            assert await at_ada.until(2) == await at_bob.until(2) == ["one", "two"]
            await room.remove("bob")
            await room.send("three")
            assert await at_ada.until(3) == ["one", "two", "three"]
            assert isinstance(await at_bob.end(), NotFound)
            assert at_bob.texts == ["one", "two"]


async def test_enforce_is_what_one_gets(start_daemon: StartDaemon) -> None:
    daemon: Daemon = await start_daemon()
    shown = await posture(Place(daemon.url, daemon.data_dir))
    assert (shown["bus_auth"], shown["acl"], shown["bus"]["auth"]) == ("enforce", True, "enforce")
    assert shown["store"]["durable"] is shown["bus"]["durable"] is True
    assert shown["status"] == "ok"


@pytest.mark.parametrize("mode", ["warn", "off"])
async def test_a_weaker_mode_does_the_main_job_and_shows_itself(start_daemon: StartDaemon, mode: str) -> None:
    daemon: Daemon = await start_daemon("--bus-auth", mode)
    place = Place(daemon.url, daemon.data_dir)
    await the_main_job(place)
    shown = await posture(place)
    assert (shown["bus_auth"], shown["acl"], shown["bus"]["auth"]) == (mode, False, mode)


async def test_warn_lets_a_stranger_in_and_says_who_it_was(start_daemon: StartDaemon) -> None:
    daemon: Daemon = await start_daemon("--bus-auth", "warn")
    await Place(daemon.url, daemon.data_dir).found()
    stranger = identity("stranger")
    client = Client(stranger.signing)
    await client.connect(
        f"nats://127.0.0.1:{daemon.nats_port}",
        signature_cb=client.prove,
        token="rooms=",  # noqa: S106 - what a connection asks for, no secret
        allow_reconnect=False,
    )
    await client.close()
    entry = await daemon.heard("enforce would refuse this connection")
    assert (entry["user"], entry["code"]) == (stranger.user, "not-a-user")


async def test_off_lets_anybody_in(start_daemon: StartDaemon) -> None:
    daemon: Daemon = await start_daemon("--bus-auth", "off")
    client = await nats.connect(f"nats://127.0.0.1:{daemon.nats_port}", allow_reconnect=False)
    assert client.is_connected
    await client.close()
