"""What must be done now and then for as long as a node runs."""

import asyncio
from collections.abc import Callable

import structlog

from unibus.errors import StorageUnavailable
from unibus.store.port import Store

EVERY = 60.0  # seconds

log = structlog.stdlib.get_logger("unibus.upkeep")


async def forget_claims(store: Store, clock: Callable[[], float]) -> None:
    """Drop expired nonces, once a minute, without end. `clock` gives Unix seconds."""
    while True:
        await asyncio.sleep(EVERY)
        try:
            await store.forget_claims(int(clock()))
        except StorageUnavailable as error:
            log.warning("expired nonces not dropped", reason=error.message)
