"""What other nodes append takes effect on this one: its books read on, its connections of who is out are cut.

The store tells of every record in order. Nothing is decided here again: a record that is in the store has been judged,
and the reducers judge it once more as it is read. Announcing is for the node that appended it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from unibus.crypto.encoding import load_json, unb64u
from unibus.errors import InvalidInput, StorageUnavailable
from unibus.model.bodies import RoomArchive, RoomLeave, RoomRemove, RoomSetRole, UserRevoke
from unibus.model.records import DIRECTORY, ROOM_PREFIX, TYPES, Record, read_record
from unibus.services.books import Books
from unibus.services.consequences import Action, Cut, Withdraw, after_directory, after_room, perform
from unibus.services.followed import Followed
from unibus.services.moves import LOG as MOVES
from unibus.services.ports import BusEffects

AGAIN = 0.5  # seconds

_TAKES_AWAY = (UserRevoke, RoomRemove, RoomLeave, RoomSetRole, RoomArchive)
# How the payloads that `write_record` makes end. What ends a JSON text is outermost in it, no member stands twice, and
# a quotation mark right after a comma begins a name or ends a text: what follows would be no JSON there.
_TAKES_NOTHING = tuple(f',"type":"{kind}","v":1}}'.encode() for kind, body in TYPES.items() if body not in _TAKES_AWAY)

log = structlog.stdlib.get_logger("unibus.following")


class Following:
    """Give `heard` to the store and keep `run` running. `take_up` reads anew all that this node goes by.

    `followed` is told of each record that takes something away, when it is heard of and when it has taken effect.
    """

    def __init__(
        self, books: Books, effects: BusEffects, take_up: Callable[[], Awaitable[None]], followed: Followed
    ) -> None:
        self._take_up = take_up
        self._books = books
        self._effects = effects
        self._followed = followed
        self._waiting: deque[tuple[str, int, bytes | None]] = deque()  # None: it takes nothing from anybody
        self._more = asyncio.Event()

    def heard(self, log: str, position: int, value: bytes) -> None:
        """Take note of the record `position` of `log`, which this node can read from now on. Never waits."""
        if log in {DIRECTORY, MOVES} or log.startswith(ROOM_PREFIX):
            self._books.heard(log, position)
            # Most records take nothing from anybody: their rooms are read on when somebody asks for them.
            taking = takes_away(value)
            if taking:
                self._followed.begin(log, position)
            if taking or log in {DIRECTORY, MOVES}:
                self._waiting.append((log, position, value if taking else None))
                self._more.set()

    async def run(self) -> None:
        """Have each record take effect, in order, without end."""
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                name, position, taking = self._waiting[0]
                try:
                    await self._follow(name, taking)
                except StorageUnavailable as error:
                    # Nobody may be forgotten here: what takes something away is tried until it is done.
                    log.warning("a record of another node has no effect yet", reason=error.message)
                    await asyncio.sleep(AGAIN)
                else:
                    self._waiting.popleft()
                    self._followed.end(name, position)

    async def _follow(self, name: str, taking: bytes | None) -> None:
        if name == MOVES:
            await self._take_up()
        if name == MOVES or self._books.moving:
            return  # nobody is on a bus that is not all here, so nothing is taken from anybody
        await self._books.refresh()
        if taking is not None:
            actions = await self._after(read_record(taking))
            await perform([action for action in actions if isinstance(action, Cut | Withdraw)], self._effects)

    async def _after(self, record: Record) -> Sequence[Action]:
        directory = self._books.directory
        if record.log == DIRECTORY:
            return after_directory(record, directory)
        return after_room(record, await self._books.room(record.log.removeprefix(ROOM_PREFIX)), directory)


def takes_away(raw: bytes) -> bool:
    """Whether a record says that it takes something from somebody, or says nothing that is understood.

    Verifies nothing: this only tells which records need to be looked at.
    """
    try:
        text = unb64u(raw.split(b".")[1])
        if text.endswith(_TAKES_NOTHING):
            return False
        payload = load_json(text)
    except (InvalidInput, IndexError):
        return True
    kind = payload.get("type") if isinstance(payload, dict) else None
    return not isinstance(kind, str) or kind not in TYPES or TYPES[kind] in _TAKES_AWAY
