"""`unibus cluster demo`: how a cluster outlives the loss of a node, told against a throw-away one, a line a step.

Three nodes, messages, `kill -9` of the leader's node; messages go on, it returns and catches up. Every step is checked;
the first that does not hold ends the demo with exit code 1. What it starts it ends, what it writes it removes.
"""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unibus.cli.context import Shared, pass_shared, run
from unibus.cli.demo import StepFailedError, Story
from unibus.tasks import end_tasks

if TYPE_CHECKING:
    from unibus.cli.local_nodes import LocalNodes
    from unibus.client.bus import Bus
    from unibus.client.messages import Message
    from unibus.client.room import Room
    from unibus.cluster.local import LocalNode
    from unibus.crypto.identity import Identity

SECONDS = 58.0
BEFORE, DURING, AFTER = 100, 100, 100
"""How many messages are sent while all nodes are there, while one is gone, and when it is back."""


@click.command("demo", short_help="the story of a cluster, told against a throw-away one")
@pass_shared
def demo(shared: Shared) -> None:
    """Tell how a cluster outlives the loss of a node. Takes less than a minute, leaves nothing."""
    run(_tell(Story(as_json=shared.json)))


async def _tell(story: Story) -> None:
    from unibus.cli.local_nodes import local_nodes

    with tempfile.TemporaryDirectory(prefix="unibus-demo-") as name:
        home = Path(name)
        try:
            async with asyncio.timeout(SECONDS), local_nodes(home / "cluster", _free_nodes()) as made:
                await _begin(story, made, home)
        except TimeoutError:
            raise StepFailedError(f"the story took longer than {SECONDS:.0f} s") from None
        story.tell("all nodes have ended", held=len(made.ended) == len(made.nodes))


def _free_nodes() -> "list[LocalNode]":
    """Three nodes on ports that nobody listens on now."""
    from unibus.cluster.local import LocalNode
    from unibus.cluster.ports import free_ports

    ports = free_ports(9)
    triples = zip(ports[:3], ports[3:6], ports[6:], strict=True)
    return [LocalNode(f"n{number}", http, nats, route) for number, (http, nats, route) in enumerate(triples, 1)]


async def _begin(story: Story, made: "LocalNodes", home: Path) -> None:
    from unibus.cli.local_nodes import token_of
    from unibus.client.bus import connect
    from unibus.client.founding import found_bus
    from unibus.client.identity_file import new_identity

    for node in made.nodes:
        await made.start(node)
    await made.well()
    story.tell("three nodes run, with tls on all planes, and agree", held=await _all_agree(made))
    alice, bob = (new_identity(home / f"{name}.nk") for name in ("alice", "bob"))
    token = token_of(made)
    assert token is not None  # noqa: S101 - for the type checker: nobody else knows the bus
    bus_id = await found_bus(made.url, alice, token.read_text().strip(), "alice", tls=made.tls)
    story.tell(f"alice founds bus {bus_id[:12]}… with the one-time token of {made.nodes[0].name}")
    leader = await _leader(made)
    first = [leader, *(node for node in made.nodes if node != leader)]
    urls = ",".join(node.url for node in first)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(connect(urls, alice, bus=bus_id, tls=made.tls))
        await a.admit("bob", bob.card())
        room = await a.create_room("ops")
        await room.add("bob")
        b = await stack.enter_async_context(connect(urls, bob, bus=bus_id, tls=made.tls))
        story.tell(f"alice makes the room ops and adds bob; both are on {leader.name}, which leads")
        await _play(story, made, leader, a, room, await b.room("ops"))
        await _look_back(story, made, leader, bob, bus_id)


async def _play(story: Story, made: "LocalNodes", leader: "LocalNode", a: "Bus", room: "Room", bobs: "Room") -> None:
    reading = asyncio.create_task(_take(bobs, BEFORE + DURING), name="bob reads")
    try:
        await _send(room, 0, BEFORE)
        story.tell(f"alice sends {BEFORE} messages")
        await made.kill(leader)
        began = time.monotonic()
        story.tell(f"{leader.name} is killed (kill -9), and its nats-server with it")
        await _send(room, BEFORE, 1)
        story.tell(f"alice's next message is acknowledged {time.monotonic() - began:.1f} s later: she has only waited")
        await a.create_room("made while one node is gone")
        story.tell("alice makes a room: records are kept by the two that are left")
        await _send(room, BEFORE + 1, DURING - 1)
        got = await reading
        expected = [str(number) for number in range(BEFORE + DURING)]
        story.tell(f"bob has read all {len(got)} messages, in order, each once", held=[m.text for m in got] == expected)
    finally:
        await end_tasks(reading)
    await made.start(leader)
    await made.well()
    story.tell(f"{leader.name} is back: all three are well", held=await _all_agree(made))
    await _send(room, BEFORE + DURING, AFTER)
    story.tell(f"alice sends {AFTER} more")


async def _look_back(story: Story, made: "LocalNodes", node: "LocalNode", bob: "Identity", bus_id: str) -> None:
    from unibus.client.bus import connect

    async with connect(node.url, bob, bus=bus_id, tls=made.tls) as again:
        room = await again.room("ops")
        got = await _take(room, BEFORE + DURING + AFTER)
        expected = [str(number) for number in range(BEFORE + DURING + AFTER)]
        story.tell(
            f"{node.name} alone shows bob all {len(got)} messages, in order, each once",
            held=[m.text for m in got] == expected,
        )


async def _all_agree(made: "LocalNodes") -> bool:
    from unibus.cluster.posture import Asked, faults

    return not faults([Asked(node.url, await made.health(node), "silent") for node in made.nodes])


async def _leader(made: "LocalNodes") -> "LocalNode":
    told = await made.health(made.nodes[0])
    name = told["store"]["leader"] if told is not None else None
    return next(node for node in made.nodes if node.name == name)


async def _send(room: "Room", first: int, count: int) -> None:
    for sent in [room.post(str(number)) for number in range(first, first + count)]:
        await sent


async def _take(room: "Room", count: int) -> "list[Message]":
    """The room's first `count` messages."""
    taken: list[Message] = []
    async with aclosing(room.messages("start")) as messages:
        async for message in messages:
            taken.append(message)
            if len(taken) == count:
                break
    return taken
