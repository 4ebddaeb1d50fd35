"""The link to the bus before several nodes: it leaves one that is going, silent or not to be trusted for another."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from unibus.client.link import Link
from unibus.crypto.identity import Identity
from unibus.errors import CertificateRefused, TlsDowngraded

ADA = Identity.from_secret(bytes(32))


class Nats:
    """Greets, lets everybody in, answers pings while it is told to, and can say that it will end."""

    def __init__(self) -> None:
        self.answers = True
        self.lets_in = True
        self.connected: asyncio.Queue[float] = asyncio.Queue()
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self._say(writer)
        try:
            while line := await reader.readline():
                if line.startswith(b"CONNECT "):
                    self.connected.put_nowait(time.monotonic())
                if line == b"PING\r\n" and self.answers:
                    writer.write(b"PONG\r\n")
                if line.startswith(b"SUB ") and not self.lets_in:
                    break
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    def goes(self) -> None:
        """Announce its end (lame duck mode)."""
        for writer in self._writers:
            self._say(writer, ldm=True)

    def _say(self, writer: asyncio.StreamWriter, **more: object) -> None:
        info = {"server_id": "N", "version": "2.15.1", "max_payload": 1 << 20, "headers": True, "nonce": "n" * 16}
        writer.write(f"INFO {json.dumps(info | more)}\r\n".encode())


class Stage:
    """Two servers, and a link that asks for them in turn."""

    def __init__(self, servers: list[Nats]) -> None:
        self.servers = servers
        self.at = 0
        self.refuse: Callable[[int], Exception | None] = lambda _: None
        self.link = Link(
            ADA,
            locate=self.locate,
            allowed=self.allowed,
            may_hear=lambda _: True,
            may_write=lambda _: True,
            on_event=lambda _: None,
            on_up=lambda: None,
            leave=self.leave,
        )

    async def locate(self) -> tuple[str, None]:
        error = self.refuse(self.at)
        if error is not None:
            raise error
        return f"nats://127.0.0.1:{self.servers[self.at].port}", None

    async def allowed(self) -> None:
        """Ada is on the bus."""

    def leave(self) -> int:
        self.at = (self.at + 1) % len(self.servers)
        return len(self.servers)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        servers = [Nats(), Nats()]
        for server in servers:
            listening = await stack.enter_async_context(await asyncio.start_server(server.serve, "127.0.0.1", 0))
            server.port = listening.sockets[0].getsockname()[1]
        stage = Stage(servers)
        stack.push_async_callback(stage.link.close)
        await stack.enter_async_context(asyncio.timeout(20))
        yield stage


async def test_a_server_that_will_end_is_left_before_it_does(stage: Stage) -> None:
    first = await stage.link.connection()
    began = time.monotonic()
    stage.servers[0].goes()
    await first.gone.wait()
    assert await stage.link.connection() is not first
    assert time.monotonic() - began < 3
    assert (stage.at, stage.servers[1].connected.qsize()) == (1, 1)


async def test_the_only_server_is_kept_until_it_has_ended(stage: Stage) -> None:
    del stage.servers[1]
    first = await stage.link.connection()
    stage.servers[0].goes()
    await first.going.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(first.gone.wait(), 1.5)


async def test_a_server_that_answers_nothing_any_more_is_left(stage: Stage) -> None:
    first = await stage.link.connection()
    stage.servers[0].answers = False
    stage.link.unanswered(first)
    await first.gone.wait()
    await stage.link.connection()
    assert stage.at == 1


async def test_a_server_that_is_only_slow_with_one_answer_is_not_left(stage: Stage) -> None:
    first = await stage.link.connection()
    for _ in range(3):
        stage.link.unanswered(first)
        await first.nats.flush(2)
        first.answered()
    assert not first.gone.is_set()
    assert stage.at == 0


async def test_a_server_that_lives_and_gives_no_answers_for_long_is_left_if_there_is_another(stage: Stage) -> None:
    first = await stage.link.connection()
    first.unanswered(asyncio.get_running_loop().time() - 10)  # seconds ago
    stage.link.unanswered(first)
    await first.gone.wait()
    await stage.link.connection()
    assert stage.at == 1


@pytest.mark.parametrize("error", [CertificateRefused("no"), TlsDowngraded("no")])
async def test_a_node_that_is_not_to_be_trusted_is_passed_over_and_named_if_all_are_so(
    stage: Stage, error: Exception
) -> None:
    stage.refuse = lambda at: error if at == 0 else None
    first = await stage.link.connection()
    assert stage.at == 1
    stage.refuse = lambda _: error
    await first.close()
    with pytest.raises(type(error)):
        await stage.link.connection()


async def test_a_bus_that_lets_in_and_cuts_off_is_tried_ever_more_rarely(stage: Stage) -> None:
    del stage.servers[1]
    server = stage.servers[0]
    stage.link.start()
    first = await server.connected.get()
    server.lets_in = False
    for writer in list(server._writers):  # noqa: SLF001 - the test's own
        writer.close()
    times = [first, *[await server.connected.get() for _ in range(5)]]
    assert times[-1] - times[-2] > 0.4
