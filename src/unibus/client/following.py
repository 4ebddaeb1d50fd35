"""Following what is announced: logs are fetched when they have news, and rooms hear what that says about them.

However often a log is announced, one task fetches it. Never believes an announcement.
"""

import asyncio
import logging
from collections.abc import Mapping

from unibus.client.replica import Replica
from unibus.client.room import Room
from unibus.crypto.encoding import load_json
from unibus.errors import InvalidInput, NotAUser, NotFound, UnibusError, Untrusted
from unibus.model.records import DIRECTORY, ROOM_PREFIX, room_log
from unibus.tasks import end_tasks

log = logging.getLogger("unibus.client")


class Following:
    """Keeps `replica` as new as the announcements, for the sake of `rooms`."""

    def __init__(self, replica: Replica, rooms: Mapping[str, Room]) -> None:
        self._replica = replica
        self._rooms = rooms
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._news: set[str] = set()

    async def close(self) -> None:
        """Stop following."""
        await end_tasks(*self.tasks.values())

    def announced(self, data: bytes) -> None:
        """Follow the log that an announcement names, which is a hint: what it leads to is fetched and verified."""
        try:
            found = load_json(data)
        except InvalidInput:
            return
        name = found.get("log") if isinstance(found, dict) else None
        if name == DIRECTORY or (isinstance(name, str) and name.removeprefix(ROOM_PREFIX) in self._replica.rooms):
            self._begin_to_follow(name)

    def catch_up(self) -> None:
        """Follow all logs that are in use: what was announced while there was no connection was missed."""
        for name in (DIRECTORY, *(room_log(room.id) for room in self._rooms.values() if room.in_use)):
            self._begin_to_follow(name)

    def _begin_to_follow(self, name: str) -> None:
        # However often a log is announced, it is fetched by one task, once more after the last announcement.
        self._news.add(name)
        if name not in self.tasks:
            self.tasks[name] = asyncio.create_task(self._follow_news(name), name=f"follow {name}")

    async def _follow_news(self, name: str) -> None:
        try:
            while name in self._news:
                self._news.discard(name)
                await self._follow(name)
        finally:
            del self.tasks[name]

    async def _follow(self, name: str) -> None:
        try:
            if name == DIRECTORY:
                await self._replica.sync_directory()
            else:
                await self._replica.sync_room(name.removeprefix(ROOM_PREFIX))
        except (NotFound, NotAUser) as error:
            for room in self._rooms.values():
                if isinstance(error, NotAUser) or room.id == name.removeprefix(ROOM_PREFIX):
                    room.end(error)
        except UnibusError as error:
            for room in self._rooms.values():
                if name in {DIRECTORY, room_log(room.id)}:
                    if isinstance(error, Untrusted):
                        room.end(error)  # who reads and writes here must hear that the server lies
                    room.doubt()
            log.warning("could not follow the log %s: %s (%s)", name, error.message, error.code)
