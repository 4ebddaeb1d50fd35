"""Making rooms, taking people in and sending, each a call that a program makes and waits for, beside a homeserver.

Several at once, each in a room of its own. unibus's calls are its client library's, which signs, seals and encrypts in
the measuring process; the homeserver's are requests.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypeVar

import aiohttp

from bench import promises
from bench.harness import Case, Metric, Sample, Side
from bench.peers import synapse
from bench.plan import Plan
from bench.stage import Stage

AT_ONCE = 16
TEXT = "x" * 128

Given = TypeVar("Given")
Made = TypeVar("Made")


async def cases(stage: Stage, plan: Plan) -> AsyncGenerator[Case, None]:
    """One case."""
    names = "rooms made", "members taken in", "messages, each waited for"
    sides = [Side("unibus", promises.UNIBUS_CHANGED, lambda: _unibus(stage, plan))]
    async with AsyncExitStack() as stack:
        if (python := synapse.found()) is not None:
            url = await stack.enter_async_context(synapse.server(stage.directory / "homeserver", python))
            connector = aiohttp.TCPConnector(limit=AT_ONCE)
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
            sender, joiner = [await synapse.register(session, url, name) for name in ("sender", "joiner")]
            sides.append(Side("synapse", synapse.CHANGED, lambda: _synapse(sender, joiner, plan)))
        else:
            print(synapse.MISSING, file=sys.stderr)
        yield Case(tuple(Metric(name, "a second") for name in names), tuple(sides), seconds=120)


async def _unibus(stage: Stage, plan: Plan) -> Sample:
    names = [secrets.token_hex(4) for _ in range(plan.changes)]
    made, rooms = await several(names, stage.sender.create_room)
    taken_in, _ = await several(rooms, lambda room: room.add("receiver"))
    sent, _ = await several(rooms[:AT_ONCE] * plan.sends, lambda room: room.send(TEXT))
    return made, taken_in, sent


async def _synapse(sender: synapse.User, joiner: synapse.User, plan: Plan) -> Sample:
    made, rooms = await several(range(plan.changes), lambda _: sender.create_room())
    taken_in, _ = await several(rooms, joiner.join)
    sent, _ = await several(rooms[:AT_ONCE] * plan.sends, lambda room: sender.send(room, TEXT))
    return made, taken_in, sent


async def several(these: Sequence[Given], do: Callable[[Given], Awaitable[Made]]) -> tuple[float, list[Made]]:
    """Do it for each of `these`, `AT_ONCE` under way; how many a second that was, and what came of each, in order."""
    left = iter(range(len(these)))
    made: dict[int, Made] = {}

    async def some() -> None:
        for number in left:
            made[number] = await do(these[number])

    begin = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return len(these) / (time.perf_counter() - begin), [made[number] for number in range(len(these))]
