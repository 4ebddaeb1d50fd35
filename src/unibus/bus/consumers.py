"""The deliveries there are, whoever made them, as JetStream itself tells of their consumers; and their end."""

import asyncio
from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

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
    consumers: list[Consumer] | None = None
    missing: list[str] | None = None


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
        there, missing = page.consumers or [], page.missing or []
        found += there
        silent |= {name for name in missing if TOKEN.fullmatch(name)}
        seen += len(there) + len(missing)
        if not (there or missing) or seen >= page.total:
            return found, sorted(silent)


async def end_deliveries(links: Links, names: Sequence[str]) -> None:
    """End the deliveries called `names`, as far as they are there. Raises BusUnavailable."""
    for first in range(0, len(names), _AT_ONCE):
        ending = (links.jetstream(f"CONSUMER.DELETE.{STREAM}.{name}") for name in names[first : first + _AT_ONCE])
        await asyncio.gather(*ending)
