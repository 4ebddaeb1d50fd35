"""Sending an answer piece by piece. Must never take an asker that is gone, or stalls, for a mistake of the node."""

import asyncio

from aiohttp import ClientConnectionResetError, web

STALL_SECONDS = 60.0
"""How long an asker may take to accept a block."""


async def send_block(response: web.StreamResponse, block: bytes) -> None:
    """Send the next block of an answer. Raises ClientConnectionResetError if its asker is gone, or takes nothing."""
    try:
        async with asyncio.timeout(STALL_SECONDS):
            await response.write(block)
    except (ConnectionError, TimeoutError):
        raise ClientConnectionResetError("nobody takes the answer any more") from None
