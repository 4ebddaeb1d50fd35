"""How long nothing is written after `kill -9` of who leads: unibus, raw JetStream KV and etcd, in turn in one run."""

import asyncio
import base64
import contextlib
import shutil
import signal
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import nats.errors
import pytest

from tests.builders import identity
from tests.chaos.conftest import Stage
from tests.store import kv_servers
from tests.store.kv_servers import Server
from unibus import Bus
from unibus.cluster.ports import free_ports

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(420)]

ROUNDS = 5
_AGAIN = 0.02  # seconds
_SHORT = 0.5  # seconds for one raw try


async def first_success(attempt: Callable[[], Awaitable[bool]], since: float) -> float:
    """Seconds from `since` to the first attempt that succeeds."""
    async with asyncio.timeout(60):
        while not await attempt():  # noqa: ASYNC110 - an election is announced to nobody
            await asyncio.sleep(_AGAIN)
    return time.monotonic() - since


class RawKv:
    """Three nats-servers and one KV bucket of three replicas, written to through a server that is not its leader."""

    def __init__(self, servers: list[Server]) -> None:
        self._servers = servers
        self._written = 0

    async def begin(self) -> None:
        wanted = {"name": "KV_raw", "subjects": ["$KV.raw.>"], "storage": "file", "num_replicas": 3}
        created = await kv_servers.jetstream(self._servers[0], "STREAM.CREATE.KV_raw", wanted)
        assert "error" not in created, created

    async def leader(self) -> Server:
        """The server that leads the bucket, once all have all of it."""
        async with asyncio.timeout(60):
            while True:
                group = (await kv_servers.jetstream(self._servers[0], "STREAM.INFO.KV_raw"))["cluster"]
                if group.get("leader") and all(peer["current"] for peer in group["replicas"]):
                    return next(server for server in self._servers if server.name == group["leader"])
                await asyncio.sleep(0.1)

    async def round(self) -> float:
        leader = await self.leader()
        other = next(server for server in self._servers if server is not leader)
        client = await other.dial()

        async def create() -> bool:
            self._written += 1
            headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
            try:
                reply = await client.request(f"$KV.raw.{self._written}", b"x" * 300, timeout=_SHORT, headers=headers)
            except nats.errors.Error:
                return False
            return b'"seq"' in reply.data and b'"error"' not in reply.data

        try:
            assert await create()
            leader.send(signal.SIGKILL)
            return await first_success(create, time.monotonic())
        finally:
            await client.close()
            leader.start()


class Etcd:
    """Three etcd servers, asked by their JSON gateway."""

    def __init__(self, binary: str, base: Path) -> None:
        self._binary, self._base = binary, base
        clients, peers = free_ports(3), free_ports(3)
        self.urls = [f"http://127.0.0.1:{port}" for port in clients]
        self._peers = [f"http://127.0.0.1:{port}" for port in peers]
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * 3
        self._written = 0

    def start(self, number: int) -> None:
        members = ",".join(f"e{other}={url}" for other, url in enumerate(self._peers))
        with (self._base / f"etcd-{number}.log").open("ab") as log:
            self.processes[number] = subprocess.Popen(
                [
                    *(self._binary, "--name", f"e{number}", "--data-dir", self._base / f"etcd-{number}"),
                    *("--listen-client-urls", self.urls[number], "--advertise-client-urls", self.urls[number]),
                    *("--listen-peer-urls", self._peers[number]),
                    *("--initial-advertise-peer-urls", self._peers[number], "--initial-cluster", members),
                ],
                stdout=log,
                stderr=log,
            )

    async def leader(self, wire: aiohttp.ClientSession) -> int:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(aiohttp.ClientError, KeyError):
                    told = [await self._ask(wire, number, "maintenance/status", {}) for number in range(3)]
                    ids = [one["header"]["member_id"] for one in told]
                    if len({one["leader"] for one in told}) == 1:
                        return ids.index(told[0]["leader"])
                await asyncio.sleep(0.1)

    async def _ask(self, wire: aiohttp.ClientSession, number: int, path: str, body: object) -> Any:
        async with wire.post(f"{self.urls[number]}/v3/{path}", json=body) as answer:
            answer.raise_for_status()
            return await answer.json()

    async def round(self, wire: aiohttp.ClientSession) -> float:
        leader = await self.leader(wire)
        other = (leader + 1) % 3

        async def put() -> bool:
            self._written += 1
            key = base64.b64encode(f"{self._written}".encode()).decode()
            try:
                async with asyncio.timeout(_SHORT):
                    await self._ask(wire, other, "kv/put", {"key": key, "value": "eA=="})
            except (aiohttp.ClientError, TimeoutError):
                return False
            return True

        assert await put()
        process = self.processes[leader]
        assert process is not None
        process.kill()
        process.wait()
        took = await first_success(put, time.monotonic())
        self.start(leader)
        return took


@contextmanager
def etcd(binary: str, base: Path) -> Iterator[Etcd]:
    """A cluster of etcd, until the block ends."""
    base.mkdir()
    made = Etcd(binary, base)
    try:
        for number in range(3):
            made.start(number)
        yield made
    finally:
        for process in made.processes:
            if process is not None:
                process.kill()
                process.wait()


async def unibus_round(stage: Stage, ada: Bus, number: int) -> float:
    """Kill the leader's node, and have the client library admit somebody."""
    await stage.cluster.well()
    leader = await stage.cluster.leader()
    began = time.monotonic()
    await leader.kill()
    name = f"user-{number}"
    await ada.admit(name, identity(name).card())
    took = time.monotonic() - began
    await leader.start()
    return took


async def test_the_leader_is_killed_again_and_again(stage: Stage, tmp_path: Path, tell: Callable[..., None]) -> None:
    """No operation of the client fails, and it waits hardly longer than whoever uses JetStream's KV itself."""
    took: dict[str, list[float]] = {"unibus": [], "JetStream KV": [], "etcd": []}
    binary = shutil.which("etcd")
    assert binary is not None, "run these by make chaos, which fetches etcd"
    await stage.cluster.start()
    await stage.cluster.found()
    with ExitStack() as stack:
        raw = RawKv(stack.enter_context(kv_servers.running(tmp_path / "raw", 3)))
        other = stack.enter_context(etcd(binary, tmp_path / "etcd"))
        await raw.begin()
        async with stage.cluster.enter("ada") as ada, aiohttp.ClientSession() as wire:
            for number in range(ROUNDS):
                took["unibus"].append(await unibus_round(stage, ada, number))
                took["JetStream KV"].append(await raw.round())
                took["etcd"].append(await other.round(wire))
            await stage.cluster.well()
            assert {user.handle for user in await ada.users()} == {"ada", *(f"user-{n}" for n in range(ROUNDS))}
    medians = {name: statistics.median(times) for name, times in took.items()}
    for name, times in took.items():
        spread = ", ".join(f"{one:.1f}" for one in sorted(times))
        tell(f"leader killed {ROUNDS} times, {name}", "", f"median {medians[name]:.1f} s", "", spread)
