"""Reading a request's body within a limit and a deadline.

Must never hold more than the limit and one network read in memory, whatever the headers claim, nor wait for a sender
longer than the deadline.
"""

import asyncio

from aiohttp import hdrs, web

from unibus.errors import InvalidInput, TooLarge

BODY_SECONDS = 30.0
"""How long a whole body may take to arrive."""


async def read_body(request: web.BaseRequest, limit: int, seconds: float = BODY_SECONDS) -> bytes:
    """The whole body, `limit` bytes at most.

    Raises TooLarge, at once where Content-Length already says so; InvalidInput for a cut, badly chunked or compressed
    body; and aiohttp's HTTPRequestTimeout (408) if it takes longer than `seconds`.
    """
    if hdrs.CONTENT_ENCODING in request.headers:
        raise InvalidInput("send the body as it is, without a content-encoding")
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            while chunk := await request.content.readany():
                parts.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
    except TimeoutError as error:
        raise web.HTTPRequestTimeout(text=f"the body did not arrive within {seconds:g} s; send it again") from error
    except (web.RequestPayloadError, ConnectionError) as error:
        raise InvalidInput("the body is cut short or badly framed; send it again") from error
    return b"".join(parts)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than the limit of {limit} bytes", limit=limit)
