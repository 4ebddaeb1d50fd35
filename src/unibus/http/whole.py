"""Answers that are all there when their handler returns them, and how such a one goes out in one step.

aiohttp sends every answer as if it might be streamed, compressed on its way or asked for by a client of twenty years
ago: a dozen coroutines, a tenth of a signed read's time. Must never send anything but what aiohttp would have sent:
whatever is not as simple as that is left to it.
"""

import time
from email.utils import formatdate
from functools import lru_cache

from aiohttp import HttpVersion11, hdrs, web
from multidict import CIMultiDict

from unibus.http.dispatch import Tell

HEADERS = CIMultiDict({hdrs.CONTENT_TYPE: "application/json", hdrs.CACHE_CONTROL: "no-store"})
"""Of every JSON answer, which copies them: that is cheaper than to put them in one by one."""


class Whole(web.Response):
    """A status that has a body, that body, not empty, and `headers` that name its type. No cookies are set on it."""

    def __init__(self, body: bytes, status: int = 200, headers: CIMultiDict[str] = HEADERS) -> None:
        super().__init__(body=body, status=status, headers=headers)

    async def send(self, request: web.BaseRequest, tell: Tell) -> bool:
        """Send it and return True; or, where that takes more than one step, False, with nothing done.

        `tell` sets what all answers say of the node. Raises ConnectionError if nobody is there any more.
        """
        body = self.body
        if (
            self.keep_alive is False
            or not request.keep_alive
            or request.version != HttpVersion11
            or request.method == hdrs.METH_HEAD
            or not isinstance(body, bytes)
        ):
            return False
        headers = self.headers
        headers[hdrs.CONTENT_LENGTH] = str(len(body))
        headers[hdrs.DATE] = _date(int(time.time()))
        tell(headers)
        self._keep_alive = True
        # The writer looks for what must not be in a header, and waits for who is slow to read.
        writer = request.writer
        await writer.write_headers(f"HTTP/1.1 {self.status} {self.reason}", headers)
        await writer.write_eof(body)
        self._eof_sent = True
        return True


@lru_cache(maxsize=1)
def _date(now: int) -> str:
    return formatdate(now, usegmt=True)
