"""A daemon that uses a nats-server of somebody else's, as people see it: from the printed block to the last message."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.builders import identity
from tests.cli.commands import Person
from tests.support.daemon import Daemon, refused, spawn
from tests.support.nats_server import NatsServer, nats_server
from tests.support.people import WAIT, Place, tail
from tests.support.pki import Authority
from unibus import connect
from unibus.client.founding import found_bus
from unibus.client.trust import make_context

NO_BIND = {"UNIBUS_NATS_BIND": "0.0.0.0:4250"}  # as if nothing was said


async def run(person: Person, *arguments: str) -> str:
    """What a command prints that has to succeed."""
    return await asyncio.to_thread(person.does, *arguments)


async def printed(tmp_path: Path, data_dir: Path) -> str:
    """What the operator is given for their server."""
    return await run(Person(tmp_path / "operator's home"), "nats-config", "--data-dir", str(data_dir))


def configuration(home: Path, block: str, more: str = "") -> str:
    return f'jetstream {{ store_dir: "{home}/js", sync_interval: always }}\n{more}\n{block}'


@asynccontextmanager
async def daemon_on(data_dir: Path, url: str, *flags: str) -> AsyncIterator[Daemon]:
    """A daemon process that uses the server at `url`, ended with SIGTERM."""
    daemon = Daemon(await spawn(data_dir, "--nats-url", url, *flags, **NO_BIND), data_dir)
    try:
        await daemon.ready()
        yield daemon
        if daemon.process.returncode is None:
            assert await daemon.stop() == 0
    finally:
        if daemon.process.returncode is None:
            await daemon.kill()


@pytest.fixture
async def external(tmp_path: Path, data_dir: Path) -> AsyncIterator[NatsServer]:
    """A server with the printed block."""
    home = tmp_path / "operator"
    async with nats_server(home, configuration(home, await printed(tmp_path, data_dir))) as server:
        yield server


async def health(daemon: Daemon) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.get(f"{daemon.url}/healthz") as answer:
        found: dict[str, object] = await answer.json()
        return found


async def until(daemon: Daemon, holds: Callable[[dict[str, object]], bool]) -> dict[str, object]:
    """The health, once that holds."""
    async with asyncio.timeout(WAIT):
        while not holds(found := await health(daemon)):  # noqa: ASYNC110 - /healthz is asked, it does not call
            await asyncio.sleep(0.05)
    return found


async def test_the_small_story(tmp_path: Path, data_dir: Path, external: NatsServer) -> None:
    async with daemon_on(data_dir, external.url) as daemon:
        assert (daemon.nats_port, (await health(daemon))["status"]) == (external.port, "ok")
        ada, bob = Person(tmp_path / "ada", daemon.url), Person(tmp_path / "bob", daemon.url)
        await run(ada, "init", "ada", "--token-file", str(data_dir / "bootstrap-token"))
        invited = json.loads(await run(ada, "--json", "user", "invite"))
        await run(bob, "join", invited["token"], "--handle", "bob")
        await run(ada, "room", "create", "ops")
        await run(ada, "room", "add", "ops", "bob")
        await run(ada, "send", "ops", "hello bob")
        await run(bob, "send", "ops", "hello ada")
        for person in (ada, bob):
            told = await run(person, "tail", "ops", "--since", "start", "--count", "2")
            assert [line.split()[-2:] for line in told.splitlines()] == [["hello", "bob"], ["hello", "ada"]]
        assert not (data_dir / "nats").exists()
        assert not (data_dir / "run").exists()


async def test_its_death_and_return(data_dir: Path, external: NatsServer) -> None:
    async with daemon_on(data_dir, external.url) as daemon, asyncio.timeout(2 * WAIT):
        place = Place(daemon.url, data_dir)
        await place.found("bob")
        async with place.enter("ada") as ada, place.enter("bob") as bob:
            room = await ada.create_room("ops")
            await room.add("bob")
            async with tail(await bob.room("ops")) as at_bob:
                await room.send("before")
                assert await at_bob.until(1) == ["before"]
                await external.kill()
                found = await until(daemon, lambda told: told["status"] == "degraded")
                assert any("the bus is down" in str(reason) for reason in found["reasons"])  # type: ignore[attr-defined]  # JSON
                posted = room.post("meanwhile")
                await external.start()
                await posted
                assert await at_bob.until(2) == ["before", "meanwhile"]
                assert at_bob.refused == []
        await until(daemon, lambda told: told["status"] == "ok")


async def test_a_restart_of_the_daemon_goes_on_where_it_was(data_dir: Path, external: NatsServer) -> None:
    async with daemon_on(data_dir, external.url) as daemon:
        port = daemon.http_port
        place = Place(daemon.url, data_dir)
        await place.found("bob")
        async with place.enter("ada") as ada:
            room = await ada.create_room("ops")
            await room.add("bob")
            await room.send("kept")
        daemon.process.send_signal(signal.SIGKILL)
        await daemon.ended()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(daemon_on(data_dir, external.url, "--http-bind", f"127.0.0.1:{port}"))
            bob = await stack.enter_async_context(place.enter("bob"))
            at_bob = await stack.enter_async_context(tail(await bob.room("ops")))
            assert await at_bob.until(1) == ["kept"]


async def test_without_the_block_the_start_is_refused_in_one_line(tmp_path: Path, data_dir: Path) -> None:
    home = tmp_path / "operator"
    async with nats_server(home, configuration(home, "")) as server:
        status, said = await refused(data_dir, "--nats-url", server.url, **NO_BIND)
    assert status == 1
    assert "Traceback" not in said
    assert "lets everybody in: put what unibus nats-config prints" in said.splitlines()[-1]


@pytest.mark.parametrize("url", ["nats://192.0.2.1:4222", "nats://u:p@127.0.0.1"])
async def test_a_wire_in_the_clear_is_refused(data_dir: Path, url: str) -> None:
    status, said = await refused(data_dir, "--nats-url", url, **NO_BIND)
    assert (status, len(said.splitlines())) == (1, 1)
    assert said.startswith("unibus-membershipd: --nats-url ")


@pytest.mark.slow
async def test_tls_all_the_way(tmp_path: Path, data_dir: Path) -> None:
    authority, home = Authority(tmp_path / "pki"), tmp_path / "operator"
    chain, key = map(str, authority.server())
    block = await printed(tmp_path, data_dir)
    tls = f'tls {{ cert_file: "{chain}", key_file: "{key}", handshake_first: %s }}'
    flags = ("--tls-cert", chain, "--tls-key", key)
    trust = make_context(authority.ca)
    stranger = Authority(tmp_path / "other", "stranger")
    async with nats_server(home, configuration(home, block, tls % '"500ms"')) as server:
        url = f"tls://127.0.0.1:{server.port}"
        for wrong, told in (
            ([url], "its certificate is not trusted"),
            ([url, "--nats-ca", str(stranger.ca)], "name its authority with --nats-ca"),
            ([f"tls://localhost:{server.port}", "--nats-ca", str(authority.ca)], "; dial a name that it has"),
            ([url, "--nats-ca", key], "holds no usable authorities"),
            ([server.url], "wants tls: write tls://"),
        ):
            _, said = await refused(data_dir, "--nats-url", *wrong, **NO_BIND)
            assert told in said.splitlines()[-1]
        async with daemon_on(data_dir, url, "--nats-ca", str(authority.ca), *flags) as daemon, asyncio.timeout(WAIT):
            at = f"https://127.0.0.1:{daemon.http_port}"
            token = (data_dir / "bootstrap-token").read_text().strip()
            await found_bus(at, identity("ada"), token, "ada", tls=trust)
            async with connect(at, identity("ada"), tls=trust) as ada:
                room = await ada.create_room("ops")
                async with tail(room) as at_ada:
                    await room.send("over tls")
                    assert await at_ada.until(1) == ["over tls"]
    async with nats_server(tmp_path / "late", configuration(home, block, tls % "false")) as server:
        late = f"tls://127.0.0.1:{server.port}"
        _, said = await refused(data_dir, "--nats-url", late, "--nats-ca", str(authority.ca), **NO_BIND)
        assert "does not begin with tls: put handshake_first" in said.splitlines()[-1]
