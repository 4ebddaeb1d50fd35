"""Sending a blob's parts, and going on after whatever cut it off: the daemon says where.

Gives up only when nothing has moved for `PATIENCE` seconds. Never sends a part that differs from the plan.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable

import aiohttp
from yarl import URL

from unibus.client.api import ControlApi
from unibus.client.backoff import delays
from unibus.client.blob_source import PART, Plan, Source, planned_part
from unibus.errors import NotFound, UnibusError, Unreachable, UploadConflict
from unibus.model.wire import BlobBegin, UploadView

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
    """Sends the parts of one blob into one room."""

    def __init__(self, api: ControlApi, room: str, source: Source, plan: Plan, progress: Progress) -> None:
        self._api = api
        self._path = blob_path(room, plan.id, "/upload")
        self._source = source
        self._plan = plan
        self._progress = progress

    async def send(self) -> None:
        """Return when all parts are there, or the blob was already.

        Raises what the daemon refuses it for, InvalidInput when the source changed, Unreachable.
        """
        loop = asyncio.get_running_loop()
        moved, reached, pauses = loop.time(), -1, delays()
        while True:
            offset = await self._begin()
            if offset > reached:
                moved, reached, pauses = loop.time(), offset, delays()
            try:
                async for sent in self._send_from(offset):
                    moved, reached = loop.time(), sent
            except UnibusError as error:
                cut = isinstance(error, _CUT) or self._api.may_go_on(error)
                if not cut or loop.time() - moved > PATIENCE:
                    raise
                await asyncio.sleep(next(pauses))
            else:
                return

    async def _begin(self) -> int:
        body = BlobBegin(size=self._plan.size).model_dump_json().encode()
        view = await self._api.call(UploadView, "PUT", self._path, body)
        if view.stored:
            return self._plan.size
        if view.offset % PART and view.offset != self._plan.size:
            # Another client of this user has sent other parts: what is there cannot be compared with the plan.
            async with self._api.exchange("DELETE", self._path):
                pass
            view = await self._api.call(UploadView, "PUT", self._path, body)
        self._progress(view.offset, self._plan.size)
        return view.offset

    async def _send_from(self, offset: int) -> AsyncGenerator[int, None]:
        """Send part after part from `offset`, each made while the one before is on its way; where each ended."""
        following = self._make(offset)
        try:
            while offset < self._plan.size:
                part = await following
                following = self._make(offset + len(part))
                target = self._path % {"offset": str(offset)}
                async with self._api.exchange("PATCH", target, part, _OCTETS, patience=PART_SECONDS):
                    offset += len(part)
                self._progress(offset, self._plan.size)
                yield offset
        finally:
            # Waited for to its end: the source must not be closed while a thread reads it.
            await asyncio.gather(following, return_exceptions=True)

    def _make(self, offset: int) -> "asyncio.Future[bytes]":
        if offset >= self._plan.size:
            following = asyncio.get_running_loop().create_future()
            following.set_result(b"")
            return following
        making = asyncio.to_thread(planned_part, self._source, self._plan, offset // PART)
        return asyncio.create_task(making, name="next part")
