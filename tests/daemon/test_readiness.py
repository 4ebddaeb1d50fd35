"""`/readyz` of a real node: ready while it can serve, whatever else is amiss; not ready while it cannot."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.conftest import options
from tests.support.pki import Authority
from tests.support.processes import WAIT, kill_nats_server, no_nats_server
from unibus.bus import binary
from unibus.daemon.node import Node
from unibus.daemon.tls_files import TlsFiles
from unibus.services.moves import LOG


def nats_server(path: Path, *, works: bool) -> Path:
    """A program that is, or is not, nats-server; one that is there is replaced at once."""
    partial = path.with_suffix(".new")
    partial.write_text(f'#!/bin/sh\nexec {binary.find(None) if works else "false"} "$@"\n')
    partial.chmod(0o700)
    return partial.replace(path)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    return nats_server(tmp_path / "nats-server", works=True)


@pytest.fixture
async def node(tmp_path: Path, server: Path) -> AsyncIterator[Node]:
    async with Node(replace(options(tmp_path / "data"), nats_server=server)) as node:
        yield node
    await no_nats_server(tmp_path / "data")


async def ready(node: Node) -> tuple[int, str]:
    """Status and words of `/readyz`."""
    url = f"http://127.0.0.1:{node.http_port}/readyz"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, (await response.text()).strip()


async def ready_where(node: Node, status: int) -> str:
    """What `/readyz` says once it answers with `status`."""
    async with asyncio.timeout(WAIT):
        while True:
            found, said = await ready(node)
            if found == status:
                return said
            await asyncio.sleep(0.02)


async def test_while_the_bus_is_down_the_node_is_not_ready(node: Node, server: Path, tmp_path: Path) -> None:
    assert await ready(node) == (200, "ready")
    nats_server(server, works=False)
    kill_nats_server(tmp_path / "data")
    assert (await ready_where(node, 503)).startswith("the bus is down: ")
    nats_server(server, works=True)
    assert await ready_where(node, 200) == "ready"


async def test_a_node_with_a_certificate_that_ends_soon_is_ready(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "pki")
    chain, key = authority.server(lasts=timedelta(days=6))
    async with Node(replace(options(tmp_path / "data"), tls=TlsFiles(chain, key, None))) as node:
        assert (await node.health())["status"] == "degraded"
        assert node.hindrances() == []
    await no_nats_server(tmp_path / "data")


async def test_while_a_bus_is_moved_in_the_node_is_not_ready(node: Node) -> None:
    node.books.heard(LOG, 1)
    status, said = await ready(node)
    assert (status, "moved in" in said) == (503, True)
