"""What the tests of the JavaScript client stand on. Where there is no Node.js, they are not collected."""

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.machine import node_is_here
from tests.interop.program import HERE, Client, start
from tests.support.daemon import Daemon, spawn
from tests.support.people import Place
from tests.support.processes import no_nats_server

collect_ignore = [] if node_is_here() else ["test_javascript.py"]  # tests/conftest.py says so in the summary


@pytest.fixture(scope="session")
def node() -> str:
    """Where Node.js is. The client's libraries are fetched if they are not those of package-lock.json."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None
    assert npm is not None
    locked, fetched = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"
    if not fetched.exists() or fetched.stat().st_mtime < locked.stat().st_mtime:
        fetch = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(fetch, cwd=HERE, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return node


@pytest.fixture
async def client(node: str) -> AsyncIterator[Client]:
    """The client in JavaScript, as a program."""
    client = await start(node)
    try:
        yield client
    finally:
        status = await client.end()
    assert status == 0


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    """A daemon of the test's own, without a bus yet."""
    data_dir = tmp_path / "data"
    daemon = Daemon(await spawn(data_dir), data_dir)
    try:
        await daemon.ready()
        yield daemon
    finally:
        await daemon.stop()
    await no_nats_server(data_dir)


@pytest.fixture
def place(daemon: Daemon) -> Place:
    """Where it serves."""
    return Place(daemon.url, daemon.data_dir)
