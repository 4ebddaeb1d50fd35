"""Reading a request's body within a limit and a deadline.

Must never hold more than the limit and one network read in memory, whatever the headers claim, nor wait for a sender
longer than the deadline.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from aiohttp import hdrs, web

from unibus.errors import InvalidInput, RequestTimeout, TooLarge
from unibus.tasks import end_tasks

BODY_SECONDS = 30.0
"""How long a whole body may take to arrive."""


HELD_BODIES = 64 * 2**20
"""Bytes of bodies that one user may have on their way at once, where a body is held in memory."""
BLOCK = 512 * 1024
"""Bytes that are gathered before they are handed on."""
SLOWEST = 32 * 1024
"""Bytes a second that a large body must come at, beside the time that any body has."""


async def read_body(request: web.BaseRequest, limit: int, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body, `limit` bytes at most.

    Raises TooLarge, at once where Content-Length already says so; InvalidInput for a cut, badly chunked or compressed
    body; and RequestTimeout if it takes longer than `seconds`.
    """
    return b"".join([block async for block in _blocks(request, limit, seconds)])


async def read_blocks(
    request: web.BaseRequest, limit: int, seconds: float = BODY_SECONDS
) -> AsyncGenerator[bytes, None]:
    """The body in blocks of about `BLOCK` bytes, `limit` in all at most; `seconds` are more for a larger limit.

    Raises as `read_body`.
    """
    gathered: list[bytes] = []
    size = 0
    async for chunk in _blocks(request, limit, seconds + limit / SLOWEST):
        gathered.append(chunk)
        size += len(chunk)
        if size >= BLOCK:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


async def read_pieces(
    request: web.BaseRequest, limit: int, seconds: float = BODY_SECONDS
) -> AsyncGenerator[bytes, None]:
    """The body as it comes from the network, uncopied, for who gathers it without putting it together.

    Otherwise as `read_blocks`.
    """

    async def read() -> bytes:
        while True:
            piece, ends_chunk = await request.content.readchunk()
            if piece or not ends_chunk:  # the end of a chunk of a chunked body may come alone
                return piece

    async for piece in _blocks(request, limit, seconds + limit / SLOWEST, read):
        yield piece


async def ahead(blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same blocks, the next one on its way while whoever asks is busy with one: two are in memory, never more."""
    async with aclosing(blocks):
        following = asyncio.ensure_future(anext(blocks, None))
        try:
            while (block := await following) is not None:
                following = asyncio.ensure_future(anext(blocks, None))
                yield block
        finally:
            await end_tasks(following)


async def _blocks(
    request: web.BaseRequest, limit: int, seconds: float, read: Callable[[], Awaitable[bytes]] | None = None
) -> AsyncGenerator[bytes, None]:
    read = read or request.content.readany
    if hdrs.CONTENT_ENCODING in request.headers:
        raise InvalidInput("send the body as it is, without a content-encoding")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    size = 0
    deadline = asyncio.get_running_loop().time() + seconds
    try:
        while True:
            if request.content.is_eof():  # most bodies come with their headers: nothing to wait for
                chunk = request.content.read_nowait()
            else:
                async with asyncio.timeout_at(deadline):
                    chunk = await read()
            if not chunk:
                return
            size += len(chunk)
            if size > limit:
                raise _too_large(limit)
            yield chunk
    except TimeoutError as error:
        raise RequestTimeout(f"the body did not arrive within {seconds:g} s; send it again") from error
    except (web.RequestPayloadError, ConnectionError) as error:
        raise InvalidInput("the body is cut short or badly framed; send it again") from error


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than the limit of {limit} bytes", limit=limit)
