"""The certificates where they are used: between real nats-servers, and at a route port that strangers knock at."""

import asyncio
import json
import os
import ssl
import time
from pathlib import Path

import pytest

from tests.cluster.example import place
from tests.support.nats_server import NatsServer, nats_server
from unibus.cluster.certs import How
from unibus.cluster.layout import CLIENT_AUTHORITY, ROUTE_AUTHORITY, PairPlace, pair
from unibus.cluster.material import make_certs

NODES = """\
CLUSTER_NAME=trial
KV_REPLICAS=1
NODE=ada  127.0.1.1  127.0.2.1  root  /opt/unibus
NODE=bob  127.0.1.2  127.0.2.2  root  /opt/unibus
"""
WAIT = 15.0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    base = place(tmp_path / "deploy", NODES)
    make_certs(base, How.KEEP, now=time.time(), random=os.urandom)
    return base


def configuration(base: Path, name: str, host: str, routes: list[str]) -> str:
    own = pair(name, "route")
    tls = {
        "cert_file": str(base / own.certificate),
        "key_file": str(base / own.key),
        "ca_file": str(base / ROUTE_AUTHORITY.certificate),
        "verify": True,
    }
    cluster = {"name": "trial", "listen": f"{host}:-1", "routes": routes, "pool_size": -1, "tls": tls}
    return f"server_name: {name}\ncluster: {json.dumps(cluster)}\n"


def route_port(server: NatsServer) -> int:
    ports = json.loads((server.home / f"nats-server_{server.pid}.ports").read_bytes())
    return int(ports["cluster"][0].rpartition(":")[2])


async def logged(server: NatsServer, word: str) -> None:
    async with asyncio.timeout(WAIT):
        while word not in (server.home / "log").read_text():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)


async def knocks(base: Path, host: str, port: int, shown: PairPlace | None) -> bytes:
    """What a route port says to somebody who shows a certificate, or none."""
    context = ssl.create_default_context(cafile=base / ROUTE_AUTHORITY.certificate)
    if shown is not None:
        context.load_cert_chain(base / shown.certificate, base / shown.key)
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    try:
        return await asyncio.wait_for(reader.read(1024), WAIT)
    finally:
        writer.transport.abort()


async def test_nodes_find_each_other_and_nobody_else_gets_in(base: Path) -> None:
    async with nats_server(base / "ada", configuration(base, "ada", "127.0.2.1", [])) as ada:
        port = route_port(ada)
        routes = [f"nats-route://127.0.2.1:{port}"]
        async with nats_server(base / "bob", configuration(base, "bob", "127.0.2.2", routes)) as bob:
            await logged(bob, "Route connection created")
            await logged(ada, "Route connection created")
        assert (await knocks(base, "127.0.2.1", port, pair("bob", "route"))).startswith(b"INFO {")
        with pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"):
            await knocks(base, "127.0.2.1", port, None)
        # A server's certificate and a client's are the client authority's, which opens no route.
        for stranger in (pair("bob", "server"), CLIENT_AUTHORITY):
            with pytest.raises(ssl.SSLError, match=r"(?i)alert|unknown.ca|bad.certificate"):
                await knocks(base, "127.0.2.1", port, stranger)
