"""The messages of a bus that is moved in: made the stream of this one, on as many nodes as keep a message at all times.

Must never touch a stream that has ever held a message: whoever sends a bus may be mistaken about where.
"""

import asyncio
import os
from pathlib import Path

from unibus.bus import snapshot
from unibus.bus.cluster_view import read_copies
from unibus.bus.links import Links
from unibus.bus.options import BusOptions
from unibus.errors import BusUnavailable, RuleBroken
from unibus.model.subjects import STREAM
from unibus.services.ports import StreamState

COPIED_WITHIN = 300.0
"""Seconds in which a majority of the nodes has what one of them was given."""
_LOOK = 0.2


async def holds(links: Links, state: StreamState) -> bool:
    """Whether the stream is `state`, on a majority of the nodes that keep it. Raises BusUnavailable."""
    info = await links.jetstream(f"STREAM.INFO.{STREAM}")
    if info is None or snapshot.read_state(info) != state:
        return False
    copies = read_copies(info)
    return copies.quorum and copies.replicas - len(copies.behind) > copies.replicas // 2


async def take_in(links: Links, options: BusOptions, path: Path, state: StreamState) -> None:
    """See `services.ports.MessagesPlace`."""
    found = await snapshot.held(links)
    if found != state:
        if found is not None and found.last:
            raise RuleBroken("the bus has messages already: start it anew, with empty data directories")
        if found is not None:
            await links.jetstream(f"STREAM.DELETE.{STREAM}")
        replicas = options.cluster.replicas if options.cluster is not None else 1
        await snapshot.load(links, path, state, options.max_payload, replicas)
        await asyncio.to_thread(os.sync)  # JetStream itself does not sync what it makes of a snapshot
    try:
        async with asyncio.timeout(COPIED_WITHIN):
            while not await holds(links, state):  # noqa: ASYNC110 - nats-server tells nobody
                await asyncio.sleep(_LOOK)
    except TimeoutError as error:
        raise BusUnavailable("too few nodes of the cluster have the messages yet: try again") from error
