"""Three real nodes: what holds while all are there, while one is gone, and while too few are left."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from io import BytesIO
from pathlib import Path

import pytest
from yarl import URL

from tests.builders import identity
from tests.cli.commands import UNIBUS
from tests.e2e.load import each_once_and_in_order, post
from tests.support.captured import Captured, session
from tests.support.cluster import Cluster, ClusterNode, free_places
from tests.support.people import tail
from tests.support.processes import nats_servers
from unibus import Bus
from unibus.client.exchange import Exchange
from unibus.client.founding import found_bus
from unibus.crypto.httpsig import NONCE_HEADER
from unibus.errors import BootstrapRefused, NoQuorum, NotAUser, NotFound, StorageUnavailable, UnibusError

pytestmark = pytest.mark.asyncio(loop_scope="module")

CUT_WITHIN = 1.0
"""Seconds after an acknowledged removal in which even a busy machine has cut whoever it reached on another node."""
FAIL_WITHIN = 3.0
"""Seconds in which a request without a quorum is told so."""


async def test_a_token_that_was_not_used_is_good_for_nothing(whole: Cluster) -> None:
    with pytest.raises(BootstrapRefused):
        await found_bus(whole["n1"].url, identity("mallory"), whole.spent, "mallory", tls=whole.tls)
    assert not any(whole.token(node.name).exists() for node in whole.nodes)


async def test_a_removal_cuts_who_is_on_another_node(whole: Cluster) -> None:
    async with AsyncExitStack() as stack:
        ada = await stack.enter_async_context(whole.enter("ada", "n1"))
        bob = await stack.enter_async_context(whole.enter("bob", "n2", only=True))
        room = await ada.create_room("removal")
        await room.add("bob")
        reading = await stack.enter_async_context(tail(await bob.room("removal")))
        await room.send("with bob")
        await reading.until(1)
        began = time.monotonic()
        await room.remove("bob")
        await room.send("without bob")
        assert isinstance(await reading.end(), NotFound)
        assert time.monotonic() - began < CUT_WITHIN
        assert reading.texts == ["with bob"]
        with pytest.raises(NotFound):
            await bob.room("removal")


async def test_a_revocation_cuts_who_is_on_another_node(whole: Cluster) -> None:
    async with AsyncExitStack() as stack:
        ada = await stack.enter_async_context(whole.enter("ada", "n1"))
        dave = await stack.enter_async_context(whole.enter("dave", "n3", only=True))
        room = await ada.create_room("revocation")
        await room.add("dave")
        reading = await stack.enter_async_context(tail(await dave.room("revocation")))
        await room.send("with dave")
        await reading.until(1)
        began = time.monotonic()
        await ada.revoke("dave")
        await room.send("without dave")
        assert isinstance(await reading.end(), NotAUser | NotFound)
        assert time.monotonic() - began < CUT_WITHIN
        assert reading.texts == ["with dave"]
    for node in whole.nodes:
        with pytest.raises(NotAUser):
            async with whole.enter("dave", node.name, only=True):
                pass


async def test_a_request_is_taken_by_one_node_once(whole: Cluster) -> None:
    """All nodes take it for one of theirs, as if behind one address: whoever comes second sees a replay."""
    async with whole.enter("bob") as bob, session(whole.tls) as wire:
        captured = Captured.by(identity("bob"), bob.id)
        answers = await asyncio.gather(*(captured.send(wire, node.url) for node in whole.nodes * 3))
    assert sorted(answers) == [200] + [401] * 8


async def test_a_request_that_names_a_nodes_nonce_is_taken_by_that_node_alone(whole: Cluster) -> None:
    """All nodes answer to the same address here, as behind a balancer, and the request could be any one's."""
    async with whole.enter("bob") as bob, session(whole.tls) as wire:
        async with wire.get(f"{whole['n2'].url}/v1/bus") as answer:
            given = answer.headers[NONCE_HEADER]
        captured = Captured.by(identity("bob"), bob.id, given=given)
        answers = await asyncio.gather(*(captured.send(wire, node.url) for node in whole.nodes * 3))
        assert sorted(answers) == [200] + [401] * 8
        assert [answers[at] for at, node in enumerate(whole.nodes * 3) if node.name != "n2"] == [401] * 6


async def test_a_node_that_has_not_heard_of_what_was_acknowledged_does_not_answer(whole: Cluster) -> None:
    """Also where a request's nonce is claimed in the memory of that node, which asks no other."""
    leader = await whole.leader()
    deaf = next(node for node in whole.nodes if node is not leader)
    async with whole.enter("ada", leader.name, only=True) as ada, asking(whole, "erin", ada.id) as exchange:

        async def head() -> int:
            async with exchange.ask(URL(deaf.url), "GET", URL("/v1/directory/records?after=0")) as answer:
                return int((await answer.json())["head"]["sequence"])

        before = await head()
        servers = nats_servers(deaf.data_dir)
        assert servers
        try:
            for server in servers:
                os.kill(server, signal.SIGSTOP)
            await ada.admit("fresh", identity("fresh").card())
            with pytest.raises(StorageUnavailable):
                await head()
        finally:
            for server in servers:
                os.kill(server, signal.SIGCONT)
        await whole.well()
        assert await head() == before + 1


async def test_a_blob_is_fetched_from_another_node(whole: Cluster, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    async with whole.enter("ada", "n1", only=True) as ada, whole.enter("carol", "n3", only=True) as carol:
        room = await ada.create_room("blobs")
        await room.add("carol")
        blob = await room.put_blob(BytesIO(content), "a file")
        await (await carol.room("blobs")).get_blob(blob, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content


def posture(whole: Cluster, *urls: str) -> subprocess.CompletedProcess[str]:
    command = [str(UNIBUS), "--ca", str(whole.ca), "posture", *urls]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


async def admit_some(bus: Bus, until: asyncio.Event) -> list[str]:
    """Admit one user after another until the event; who was admitted."""
    admitted: list[str] = []
    while not until.is_set():
        name = f"user-{len(admitted)}"
        await bus.admit(name, identity(name).card())
        admitted.append(name)
    return admitted


async def test_the_leaders_node_is_killed_under_load_and_nothing_fails(whole: Cluster) -> None:
    leader = await whole.leader()
    async with AsyncExitStack() as stack:
        ada = await stack.enter_async_context(whole.enter("ada", leader.name))
        carol = await stack.enter_async_context(whole.enter("carol", leader.name))
        room = await ada.create_room("load")
        await room.add("carol")
        reading = await stack.enter_async_context(tail(await carol.room("load")))
        over = asyncio.Event()
        admitting = asyncio.create_task(admit_some(ada, over))
        posting = asyncio.create_task(post(room, 20_000))
        await reading.until(2000)
        await leader.kill()
        acknowledged = await posting
        over.set()
        admitted = await admitting
        await reading.until(20_000)
        each_once_and_in_order(acknowledged, reading)
        assert {user.handle for user in await ada.users()} >= set(admitted)
        assert len(admitted) > 1
        urls = [node.url for node in whole.nodes]
        missing = await asyncio.to_thread(posture, whole, *urls)
        assert (missing.returncode, "silent" in missing.stdout) == (1, True)
        await leader.start()
        await whole.well()
        async with whole.enter("carol", leader.name, only=True) as again:
            assert {user.handle for user in await again.users()} >= set(admitted)
            async with tail(await again.room("load")) as once_more:
                await once_more.until(20_000)
                each_once_and_in_order(acknowledged, once_more)
    green = await asyncio.to_thread(posture, whole, *urls)
    assert (green.returncode, green.stderr) == (0, "")


@asynccontextmanager
async def asking(whole: Cluster, name: str, bus: str) -> AsyncIterator[Exchange]:
    """What sends signed requests, each to one node."""
    exchange = Exchange(identity(name).signing, time.time, 10.0, whole.tls)
    exchange.bus = bus
    await exchange.open()
    try:
        yield exchange
    finally:
        await exchange.close()


async def ask(whole: Cluster, node: ClusterNode, bus: str) -> list[UnibusError | None]:
    """What an authenticated request, tried once, is refused with: without a nonce of the node's, and with one."""

    async def refusal(*, named: bool) -> UnibusError | None:
        async with asking(whole, "ada", bus) as exchange:
            if named:
                with suppress(UnibusError):
                    async with exchange.ask(URL(node.url), "GET", URL("/v1/bus"), signed=False):
                        pass
            try:
                async with exchange.ask(URL(node.url), "GET", URL("/v1/directory/records?after=0")):
                    return None
            except UnibusError as error:
                return error

    return list(await asyncio.gather(refusal(named=False), refusal(named=True)))


async def test_without_a_quorum_all_fails_closed_with_words_and_comes_back_by_itself(whole: Cluster) -> None:
    left, *lost = whole.nodes
    async with whole.enter("ada", "n1") as ada:
        room = await ada.create_room("quorum")
        await asyncio.gather(*(node.kill() for node in lost))
        try:
            began = time.monotonic()
            refusals = await ask(whole, left, ada.id)
            assert time.monotonic() - began < FAIL_WITHIN
            assert all(isinstance(refusal, NoQuorum | StorageUnavailable) for refusal in refusals), refusals
            alone = "the bus is down: waiting for the cluster: 1 of 3 nodes"
            await whole.until(lambda told: not told["store"]["quorum"] and alone in told["reasons"], [left])
            assert (await left.health())["status"] == "degraded"
            assert all(isinstance(refusal, NoQuorum) for refusal in await ask(whole, left, ada.id))
            assert (await asyncio.to_thread(posture, whole, left.url)).returncode == 1
            sending = asyncio.create_task(room.send("waits"))
        finally:
            await asyncio.gather(*(node.start() for node in lost))
            await whole.well()
        await sending
        assert await ask(whole, left, ada.id) == [None, None]


async def refusal_of(node: ClusterNode, *flags: str) -> str:
    """What a node says that does not stay."""
    daemon = await node.spawn(*flags)
    assert await daemon.ended() == 1
    return daemon.said.splitlines()[-1]


async def test_a_node_that_does_not_agree_does_not_serve(whole: Cluster) -> None:
    node = whole["n3"]
    assert await node.stop() == 0
    told = node.variables
    try:
        node.variables = {name: value for name, value in told.items() if not name.startswith("UNIBUS_TLS")}
        assert "tls is off here and on on n" in await refusal_of(node)
        assert "--bus-auth enforce" in await refusal_of(node, "--bus-auth", "warn")
    finally:
        node.variables = told
        await node.start()
        await whole.well()


async def test_a_name_that_is_taken_is_refused(whole: Cluster) -> None:
    (free,) = free_places(1)
    second = ClusterNode(whole.base, [node.place for node in whole.nodes], whole["n2"].place)
    second.data_dir = whole.base / "another"
    second.variables |= {
        "UNIBUS_DATA_DIR": str(second.data_dir),
        "UNIBUS_HTTP_BIND": f"127.0.0.1:{free.http_port}",
        "UNIBUS_NATS_BIND": f"127.0.0.1:{free.nats_port}",
        "UNIBUS_CLUSTER_BIND": f"127.0.0.1:{free.route_port}",
    }
    try:
        assert "called n2" in await refusal_of(second)
    finally:
        await second.end()
    await whole.well()
