"""The route of backups: one file, streamed to an admin. Decides nothing itself."""

from contextlib import aclosing

from aiohttp import hdrs, web

from unibus.errors import BusUnavailable, Forbidden, LimitReached, NotFound, StorageUnavailable
from unibus.http.auth import Authenticator
from unibus.http.operations import Answer, Asker, Operation
from unibus.http.sending import send_block
from unibus.services.backups import Backups


class BackupApi:
    """The handler, over the service."""

    def __init__(self, authenticator: Authenticator, backups: Backups) -> None:
        self._authenticator = authenticator
        self._backups = backups

    def operations(self) -> list[Operation]:
        """The operation."""
        return [
            Operation(
                *("GET", "/v1/backup", self.backup, Asker.USER),
                [Answer(200, "the backup, still without the signature of who fetches it", "application/x-tar")],
                problems=(Forbidden, NotFound, LimitReached, StorageUnavailable, BusUnavailable),
                moves_blobs=True,
            )
        ]

    async def backup(self, request: web.Request) -> web.StreamResponse:
        """All that the node keeps, as one file, for admins. The answer begins when all copies are put aside."""
        caller = await self._authenticator.authenticate(request)
        async with self._backups.prepare(caller.user) as prepared:
            response = web.StreamResponse(headers={hdrs.CACHE_CONTROL: "no-store"})
            response.content_type = "application/x-tar"
            response.content_length = prepared.size
            await response.prepare(request)
            async with aclosing(prepared.blocks) as blocks:
                async for block in blocks:
                    await send_block(response, block)
        return response
