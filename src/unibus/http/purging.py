"""The route by which an admin frees what an abandoned room holds. Decides nothing itself."""

from aiohttp import web

from unibus.errors import BusUnavailable, Forbidden, NotFound, StorageUnavailable
from unibus.http.auth import Authenticator
from unibus.http.operations import Answer, Asker, Operation
from unibus.http.parameters import ROOM
from unibus.services.abandoned import Abandoned


class PurgeApi:
    """The handler, over the service."""

    def __init__(self, authenticator: Authenticator, abandoned: Abandoned) -> None:
        self._authenticator = authenticator
        self._abandoned = abandoned

    def operations(self) -> list[Operation]:
        """The operation."""
        return [
            Operation(
                *("DELETE", "/v1/rooms/{room}/content", self.purge, Asker.USER),
                [Answer(204, "nothing of it is kept any more")],
                parameters=(ROOM,),
                problems=(Forbidden, NotFound, StorageUnavailable, BusUnavailable),
            )
        ]

    async def purge(self, request: web.Request) -> web.Response:
        """Free what a room holds in which nobody is left who is on the bus, for admins. Its records stay."""
        caller = await self._authenticator.authenticate(request)
        await self._abandoned.purge(caller.user, request.match_info["room"])
        return web.Response(status=204)
