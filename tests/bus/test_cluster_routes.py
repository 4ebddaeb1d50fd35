"""The port between servers: who gets through it, and that its secret is nowhere but in the one private file."""

import asyncio
import json
import os
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.bus.cluster_stage import SECRET, ClusterStage, until
from tests.bus.stage import WAIT
from tests.support.pki import Authority
from unibus.bus import config
from unibus.bus.cluster import ROUTE_USER, Cluster
from unibus.bus.keys import BusKeys
from unibus.bus.options import BusOptions

CLOSED = "closed"


@pytest.fixture
async def lone(tmp_path: Path) -> AsyncIterator[ClusterStage]:
    """One node of three, whose peers are not there."""
    async with AsyncExitStack() as stack:
        cluster = ClusterStage(tmp_path, stack)
        await cluster.start("one")
        yield cluster


async def knock(port: int, context: ssl.SSLContext | None, secret: str) -> str:
    """The first word that a route's port has for a peer with this certificate and secret, INFO and PING aside."""
    async with AsyncExitStack() as stack:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            stack.callback(writer.transport.abort)
            login = {"user": ROUTE_USER, "pass": secret, "name": "N" * 56, "cluster": "trio", "verbose": False}
            writer.write(b"CONNECT " + json.dumps(login).encode() + b"\r\nPING\r\n")
            async with asyncio.timeout(WAIT):
                while (line := await reader.readline()).startswith((b"INFO", b"PING")):
                    pass
        except (ConnectionError, ssl.SSLError):
            return CLOSED
        return line.decode().strip() or CLOSED


def showing(authority: Authority, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """A peer that trusts `authority`, and shows `certificate`, which holds its key too if `key` does not."""
    context = ssl.create_default_context(cafile=authority.ca)
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context


async def test_only_a_route_certificate_with_the_secret_opens_a_route(lone: ClusterStage) -> None:
    port, routes = lone.routes[0], lone.authority
    clients = Authority(lone.home / "clients", "clients")
    good = showing(routes, *routes.route("peer"))
    assert await knock(port, good, SECRET) == "PONG"
    assert "Authorization" in await knock(port, good, SECRET[:-1] + "0")
    assert "Authorization" in await knock(port, good, "")
    assert await knock(port, showing(routes), SECRET) == CLOSED
    assert await knock(port, showing(routes, clients.client()), SECRET) == CLOSED
    assert await knock(port, showing(routes, *clients.route("other")), SECRET) == CLOSED
    assert await knock(port, None, SECRET) == CLOSED
    view = lone.stages["one"].plane.status()["cluster"]
    assert isinstance(view, dict)
    assert view["peers"] == []


async def test_the_secret_is_in_one_private_file_and_nowhere_else(lone: ClusterStage) -> None:
    stage = lone.stages["one"]
    await until(lambda: stage.plane.status()["reason"] == "waiting for the cluster: 1 of 3 nodes")
    await knock(lone.routes[0], showing(lone.authority, *lone.authority.route("peer")), "wrong")
    process = Path("/proc") / str(lone.pid("one"))
    assert SECRET.encode() not in (process / "cmdline").read_bytes()
    assert SECRET.encode() not in (process / "environ").read_bytes()
    assert SECRET not in json.dumps(stage.plane.status())
    assert SECRET not in str(stage.log.entries)
    assert SECRET not in repr(lone.cluster("one"))
    files = [path for path in (lone.home / "one").rglob("*") if path.is_file()]
    (found,) = [path for path in files if SECRET.encode() in path.read_bytes()]
    assert stat.S_IMODE(found.stat().st_mode) == 0o600
    assert stat.S_IMODE(found.parent.stat().st_mode) == 0o700


async def test_a_node_without_its_peers_waits_and_hinders_nobody(lone: ClusterStage) -> None:
    stage = lone.stages["one"]
    pid = lone.pid("one")
    await until(lambda: stage.plane.status()["reason"] == "waiting for the cluster: 1 of 3 nodes")
    client = await stage.plane.core_dial()
    assert client.is_connected
    await client.close()
    await stage.plane.retain("a" * 26, 3600, None)
    assert not stage.plane.status()["ready"]
    os.kill(pid, 0)
    assert stage.plane.status()["restarts"] == 0


def test_a_secret_of_any_characters_stays_in_its_place() -> None:
    secret = 'a"b:c@d/e?f#g%h&i\\j $k{l}'  # noqa: S105 - it opens nothing
    cluster = Cluster("trio", "::1", 6250, (("::1", 6251), ("host", 6252)), secret)
    options = BusOptions(Path("/data"), node="one", cluster=cluster)
    block = json.loads(config.render(options, BusKeys.generate(os.urandom), 4250, 0, 1 << 30))["cluster"]
    assert block["authorization"]["password"] == secret
    assert block["no_advertise"] is True
    assert block["routes"] == [
        f"nats-route://unibus:a%22b%3Ac%40d%2Fe%3Ff%23g%25h%26i%5Cj%20%24k%7Bl%7D@{place}"
        for place in ("[::1]:6251", "host:6252")
    ]
