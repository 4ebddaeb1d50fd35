"""Sending a blob's parts, and going on after whatever cut it off: the daemon says where.

Gives up only when nothing has moved for `PATIENCE` seconds. What is sent where is for `client.blob_parts` to say.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

import aiohttp
from yarl import URL

from unibus.client.api import ControlApi
from unibus.client.backoff import delays
from unibus.client.blob_parts import AHEAD, Part, Parts
from unibus.client.blob_source import PART
from unibus.client.exchange import NamedBody
from unibus.errors import NotFound, UnibusError, Unreachable, UploadConflict
from unibus.model.wire import BlobBegin, UploadView
from unibus.tasks import end_tasks

PATIENCE = 60.0
PART_SECONDS = aiohttp.ClientTimeout(total=330.0, sock_connect=10.0)
"""As long as the daemon waits for a part, and for the slowest disk that ends one."""
_CUT = (Unreachable, UploadConflict, NotFound)

JSON, _OCTETS = {"Content-Type": "application/json"}, {"Content-Type": "application/octet-stream"}

Progress = Callable[[int, int], None]
"""Told how many bytes of how many are done."""


def blob_path(room: str, blob: str, what: str = "") -> URL:
    """The address of a blob or of something about it."""
    return URL(f"/v1/rooms/{room}/blobs/{blob}{what}")


class Sender:
    """Sends the parts of one blob into one room, as the upload `name`."""

    def __init__(self, api: ControlApi, room: str, name: str, parts: Parts, progress: Progress) -> None:
        self._api = api
        self._path = blob_path(room, name, "/upload")
        self._parts = parts
        self._progress = progress
        self._unanswered = AHEAD

    async def send(self) -> str:
        """Return when all parts are there, with the blob's id, which is known then.

        Raises what the daemon refuses it for, InvalidInput when the source changed, KeyCustody, Unreachable.
        """
        loop = asyncio.get_running_loop()
        moved, reached, pauses = loop.time(), -1, delays()
        while True:
            offset = await self._begin()
            if offset > reached:
                moved, reached, pauses = loop.time(), offset, delays()
            try:
                async for sent in self._send_from(offset):
                    moved, reached, pauses = loop.time(), sent, delays()
            except UnibusError as error:
                cut = isinstance(error, _CUT) or self._api.may_go_on(error)
                if not cut or loop.time() - moved > PATIENCE:
                    raise
                if isinstance(error, UploadConflict):  # perhaps from an older version, for a part that came too early
                    self._unanswered = max(0, self._unanswered - 1)
                await asyncio.sleep(next(pauses))
            else:
                return await asyncio.to_thread(self._parts.whole)

    async def _begin(self) -> int:
        body = BlobBegin(size=self._parts.size).model_dump_json().encode()
        view = await self._api.call(UploadView, "PUT", self._path, body)
        ends = view.offset == self._parts.size
        if (view.offset % PART and not ends) or view.offset > self._parts.noted * PART:
            # Not where a part of ours ends: somebody else has sent it, with the key of this user.
            async with self._api.exchange("DELETE", self._path):
                pass
            view = await self._api.call(UploadView, "PUT", self._path, body)
        self._progress(view.offset, self._parts.size)
        return view.offset

    async def _send_from(self, offset: int) -> AsyncGenerator[int, None]:
        """Send part after part from `offset`, each made while the one before is on its way; where each ended.

        While the daemon brings one to its disk, the next is sent already, as far as the daemon can do that.
        """
        # New for each attempt: a connection that was cut may still hold what it has not sent.
        buffers = [memoryview(bytearray(min(PART, self._parts.size))) for _ in range(AHEAD + 2)]
        following, sending = self._make(offset, buffers), deque[asyncio.Task[int]]()
        try:
            while (part := await asyncio.shield(following)) is not None:  # its thread goes on when this is cancelled
                given = asyncio.get_running_loop().create_future()
                sending.append(asyncio.create_task(self._send_part(part, offset, given), name="part"))
                offset += len(part.sealed)
                following = self._make(offset, buffers)
                await asyncio.wait({given, sending[-1]}, return_when=asyncio.FIRST_COMPLETED)
                while len(sending) > self._unanswered or (sending and sending[-1].done()):
                    yield await self._answered(sending)
            while sending:
                yield await self._answered(sending)
        finally:
            # Waited for to its end: the source must not be closed while a thread reads it.
            await asyncio.gather(following, return_exceptions=True)
            await end_tasks(*sending)

    async def _send_part(self, part: Part, offset: int, given: "asyncio.Future[None]") -> int:
        target = self._path % {"offset": str(offset), "through": part.through}

        def give() -> None:
            if not given.done():
                given.set_result(None)

        body = NamedBody(part.sealed, give)
        async with self._api.exchange("PATCH", target, headers=_OCTETS, patience=PART_SECONDS, named=body):
            return offset + len(part.sealed)

    async def _answered(self, sending: "deque[asyncio.Task[int]]") -> int:
        reached = await sending.popleft()
        self._progress(reached, self._parts.size)
        return reached

    def _make(self, offset: int, buffers: list[memoryview]) -> "asyncio.Task[Part | None]":
        number = offset // PART

        def make() -> Part | None:
            into = buffers[number % len(buffers)]
            return self._parts.make(number, into) if offset < self._parts.size else None

        return asyncio.create_task(asyncio.to_thread(make), name="next part")
