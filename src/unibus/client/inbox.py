"""What has arrived of one delivery and was not handled yet, in order; and that nothing arrives any more.

One message at a time must not pay for a time-out of its own: a timer that is set now and then looks whether the reader
has been waiting for too long. An honest bus's flow control bounds what is on its way. What another sends beyond that is
left out, which its reader finds as a gap.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from nats.aio.msg import Msg

from unibus.tasks import end_tasks

EACH = 1024
"""Bytes that a message takes besides its data."""
MOST = 256 * 2**20
"""Bytes that wait. Flow control lets 32 MiB be on their way, which small frames take up three times over."""


class Inbox:
    """One delivery's messages, `most` bytes of them. `silence` is in seconds. Must be made where an event loop runs.

    `half` is how many bytes are here of a message that is not all here: while they become more, nobody is silent.
    """

    def __init__(self, silence: float, most: int = MOST) -> None:
        self._silence = silence
        self._room = most
        self._loop = asyncio.get_running_loop()
        self._arrived: deque[Msg | None] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._put = 0
        self._seen = (0, 0)
        self.half: Callable[[], int] = int

    def put(self, msg: Msg | None) -> None:
        """Add a message, if there is room for it; None is the end of them."""
        if msg is not None:
            if len(msg.data) + EACH > self._room:
                return
            self._room -= len(msg.data) + EACH
        self._arrived.append(msg)
        self._put += 1
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def get(self) -> Msg | None:
        """The next message. Raises TimeoutError when none has come since `silence` after this was called."""
        if not self._arrived:
            self._since = self._loop.time()
            self._more()
            self._waiting = self._loop.create_future()
            if self._timer is None:
                self._timer = self._loop.call_later(self._silence, self._look)
            try:
                await self._waiting
            finally:
                self._waiting = None
        msg = self._arrived.popleft()
        if msg is not None:
            self._room += len(msg.data) + EACH
        return msg

    async def unless_silent(self, asking: Coroutine[Any, Any, bytes]) -> bytes:
        """What `asking` gives. Raises TimeoutError when neither it nor anything of the delivery comes for `silence`.

        A delivery begins before the answer to who asked for it, which over a slow link is behind megabytes.
        """
        asked = asyncio.ensure_future(asking)
        self._more()
        try:
            while not (await asyncio.wait({asked}, timeout=self._silence))[0]:
                if not self._more():
                    raise TimeoutError
            return await asked
        finally:
            await end_tasks(asked)

    def close(self) -> None:
        """Let go of the timer. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._waiting is None or self._waiting.done():
            return
        left = self._since + self._silence - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        elif self._more():
            self._timer = self._loop.call_later(self._silence, self._look)
        else:
            self._waiting.set_exception(TimeoutError())

    def _more(self) -> bool:
        """Whether anything has come since this was last asked."""
        before, self._seen = self._seen, (self._put, self.half())
        return self._seen != before
