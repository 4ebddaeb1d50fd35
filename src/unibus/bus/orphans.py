"""Ends deliveries whose daemon is gone: in a cluster their consumers live on, and nobody would end them on a removal.

A reader who kept its subscription could otherwise go on hearing a room that it has lost. Must never end a delivery of a
server that is there.
"""

import asyncio
import contextlib
from collections.abc import Collection, Iterable

from pydantic import BaseModel, ValidationError

from unibus.bus.delivery_book import SERVER
from unibus.bus.links import Links
from unibus.errors import BusUnavailable
from unibus.model.names import TOKEN
from unibus.model.subjects import STREAM

LISTED_WITHIN = 10.0
"""Seconds; nats-server itself waits four for those that keep the consumers."""
_AT_ONCE = 64


class Settings(BaseModel):
    """What a delivery's consumer was made with."""

    metadata: dict[str, str] = {}
    deliver_subject: str = ""
    filter_subject: str = ""


class Consumer(BaseModel):
    """A delivery, as JetStream tells of it."""

    name: str
    config: Settings = Settings()


class _Page(BaseModel):
    total: int
    consumers: list[Consumer] = []
    missing: list[str] | None = None


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
    for first in range(0, len(gone), _AT_ONCE):
        await asyncio.gather(
            *(links.jetstream(f"CONSUMER.DELETE.{STREAM}.{name}") for name in gone[first : first + _AT_ONCE])
        )
    for name in silent:
        with contextlib.suppress(BusUnavailable):  # who would confirm it is the one that is away
            await links.jetstream(f"CONSUMER.DELETE.{STREAM}.{name}", within=1.0)
    return gone + silent


async def consumers(links: Links) -> tuple[list[Consumer], list[str]]:
    """All deliveries, and the names of those that nobody told of. Raises BusUnavailable."""
    found: list[Consumer] = []
    silent: set[str] = set()
    seen = 0
    while True:
        answer = await links.jetstream(f"CONSUMER.LIST.{STREAM}", {"offset": seen}, LISTED_WITHIN)
        try:
            page = _Page.model_validate(answer)
        except ValidationError as error:
            raise BusUnavailable("nats-server's list of consumers is not understood") from error
        found += page.consumers
        silent |= {name for name in page.missing or [] if TOKEN.fullmatch(name)}
        told = len(page.consumers) + len(page.missing or [])
        seen += told
        if not told or seen >= page.total:
            return found, sorted(silent)
