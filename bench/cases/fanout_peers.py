"""The same fan-out by way of other servers, as far as they are installed here; each is started for it and ended."""

import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from bench.arrivals import Arrivals
from bench.harness import Sample, Side
from bench.peers import mosquitto, prosody, synapse

SLOWER = 20  # as many times fewer messages are sent by way of Synapse, or a round takes minutes

Entered = TypeVar("Entered")


class Enter(Protocol):
    """`AsyncExitStack.enter_async_context`."""

    async def __call__(self, context: AbstractAsyncContextManager[Entered], /) -> Entered:
        """Enter it."""


@dataclass(frozen=True, slots=True)
class Load:
    """So many messages, each to so many receivers."""

    receivers: int
    count: int


async def peers(where: Path, enter: Enter, body: bytes, load: Load) -> list[Side]:
    """The sides that are installed here, with their data in `where`. Says how to get the others."""
    text = body.hex()[: len(body)]  # XML and JSON carry no bytes
    sides = []
    if (broker := mosquitto.found()) is not None:
        port = await enter(mosquitto.server(where / f"mosquitto-{load.receivers}", *broker))
        measure = _mosquitto(port, body, load)
        sides.append(Side("mosquitto, dynamic security", mosquitto.PROMISE, measure, (">= 1",)))
    else:
        print(mosquitto.MISSING, file=sys.stderr)
    if (program := prosody.found()) is not None:
        port = await enter(prosody.server(where / f"prosody-{load.receivers}", program))
        arrivals = Arrivals()
        jabber, chat = await enter(prosody.room_with(port, load.receivers, arrivals.one))
        measure = _sent(lambda count: jabber.send_all(chat, text, count), arrivals, load)
        sides.append(Side("prosody, rooms", prosody.PROMISE, measure))
    else:
        print(prosody.MISSING, file=sys.stderr)
    if (python := synapse.found()) is not None:
        url = await enter(synapse.server(where / f"synapse-{load.receivers}", python))
        arrivals_there = Arrivals()
        user, room = await enter(synapse.room_with(url, load.receivers, arrivals_there.one))
        fewer = Load(load.receivers, max(1, load.count // SLOWER))
        measure = _sent(lambda count: user.send_all(room, text, count), arrivals_there, fewer)
        sides.append(Side("synapse", synapse.PROMISE, measure, (">= 20",)))
    else:
        print(synapse.MISSING, file=sys.stderr)
    return sides


def _mosquitto(port: int, body: bytes, load: Load) -> Callable[[], Awaitable[Sample]]:
    async def measure() -> Sample:
        arrivals = Arrivals()
        clients = [await mosquitto.connect(port, f"reader-{n}", arrivals.one) for n in range(load.receivers)]
        clients.append(await mosquitto.connect(port, "sender"))

        async def send(count: int) -> None:
            for _ in range(count):
                clients[-1].publish(body)

        sample = await _sent(send, arrivals, load)()
        for client in clients:
            client.transport.abort()
        return sample

    return measure


def _sent(send: Callable[[int], Awaitable[None]], arrivals: Arrivals, load: Load) -> Callable[[], Awaitable[Sample]]:
    """Have so many messages sent, and wait until all have arrived."""

    async def measure() -> Sample:
        expected = load.count * load.receivers
        arrivals.expect(expected)
        begin = time.perf_counter()
        await send(load.count)
        await arrivals.all_in.wait()
        return (expected / (time.perf_counter() - begin),)

    return measure
