"""Ends deliveries whose daemon is gone: in a cluster their consumers live on, and nobody would end them on a removal.

A reader who kept its subscription could otherwise go on hearing a room that it has lost. Must never end a delivery of a
server that is there.
"""

import contextlib
from collections.abc import Collection, Iterable

from unibus.bus.consumers import consumers, end_deliveries
from unibus.bus.delivery_book import SERVER
from unibus.bus.links import Links
from unibus.errors import BusUnavailable
from unibus.model.subjects import STREAM


def orphans(owners: Iterable[tuple[str, str | None]], alive: Collection[str]) -> list[str]:
    """The names of those deliveries whose server is not among the ids in `alive`; what has no server is none."""
    return [name for name, owner in owners if owner is not None and owner not in alive]


async def sweep(links: Links, alive: Collection[str]) -> list[str]:
    """End all deliveries that were made through other servers than `alive`; which those were.

    Those that the servers which keep them did not tell of are ended as well: they deliver nothing, and their readers
    ask again. Raises BusUnavailable when there may be some left.
    """
    found, silent = await consumers(links)
    gone = orphans(((one.name, one.config.metadata.get(SERVER)) for one in found), alive)
    await end_deliveries(links, gone)
    for name in silent:
        with contextlib.suppress(BusUnavailable):  # who would confirm it is the one that is away
            await links.jetstream(f"CONSUMER.DELETE.{STREAM}.{name}", within=1.0)
    return gone + silent
