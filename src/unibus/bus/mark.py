"""How much the stream of messages held when it was last looked at, on disk, so that a loss does not go unseen.

nats-server takes a damaged store for a shorter one: it leaves out what it cannot read, gives the numbers of lost
messages to new ones, and says that all is well. What this file remembers is held against each beginning of its lives.
Must never stop the bus: a loss is told, until an operator has restored a backup or taken the file away.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from structlog.typing import FilteringBoundLogger

from unibus.bus import stream
from unibus.bus.links import Links
from unibus.errors import BusUnavailable
from unibus.store.files import keep

MARK = "messages-mark"
"""The file's name in the data directory."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the stream holds: the number of its newest message, and how many there are."""

    last: int
    messages: int


class Mark(BaseModel):
    """`messages` is None while some were being dropped on purpose; `lost` says in words what is missing."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    last: int = 0
    messages: int | None = None
    lost: str | None = None


def after(mark: Mark, held: Held) -> Mark:
    """The mark once the stream was found to be `held` at the beginning of a life: nobody dropped any before that."""
    lost = mark.lost
    if held.last < mark.last:
        lost = f"acknowledged messages are lost: the store ends at {held.last}, and {mark.last} was stored before"
    elif mark.messages is not None and held.messages < mark.messages:
        lost = f"acknowledged messages are lost: the store has {held.messages}, and had {mark.messages} before"
    return Mark(last=held.last, messages=held.messages, lost=lost)


class Marker:
    """Keeps the mark of one data directory through all lives of its server."""

    def __init__(self, data_dir: Path, log: FilteringBoundLogger, *, shared: bool = False) -> None:
        self._shared = shared  # other nodes of a cluster drop messages too, and do not tell
        self._path = data_dir / MARK
        self._log = log
        self._mark = Mark()
        self._looking = asyncio.Lock()

    @property
    def loss(self) -> str | None:
        """What is missing and what to do about it, in words for people; None when nothing is known to be."""
        if self._mark.lost is None:
            return None
        return f"{self._mark.lost}: restore a backup, or remove {self._path} and restart to go on without them"

    async def begin(self, links: Links) -> None:
        """Compare what the stream holds at the beginning of a life with the mark. Raises BusUnavailable."""
        async with self._looking:
            self._mark = await asyncio.to_thread(_read, self._path)
            before = self._mark.model_copy(update={"messages": None}) if self._shared else self._mark
            await self._keep(after(before, await look(links)))
        if self.loss is not None:
            self._log.error("messages are lost", reason=self.loss)

    async def note(self, links: Links) -> None:
        """Remember what the stream holds now. Raises BusUnavailable."""
        async with self._looking:
            held = await look(links)
            await self._keep(Mark(last=held.last, messages=held.messages, lost=self._mark.lost))

    @contextlib.asynccontextmanager
    async def dropping(self) -> AsyncIterator[None]:
        """While this is entered messages are dropped on purpose: how many there are is not held against the server."""
        async with self._looking:
            await self._keep(self._mark.model_copy(update={"messages": None}))
            yield

    async def _keep(self, mark: Mark) -> None:
        if mark == self._mark and self._path.exists():
            return
        self._mark = mark
        try:
            await asyncio.to_thread(_write, self._path, mark)
        except OSError as error:
            self._log.warning("how much the bus holds could not be noted", reason=error.strerror)


async def look(links: Links) -> Held:
    """What the stream holds now. Raises BusUnavailable."""
    match await stream.info(links):
        case {"state": {"last_seq": int(last), "messages": int(messages)}}:
            return Held(last, messages)
        case _:
            raise BusUnavailable("nats-server's description of the stream is not understood")


def _read(path: Path) -> Mark:
    try:
        return Mark.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Mark()
    except (OSError, ValidationError) as error:
        raise BusUnavailable(f"{path} cannot be read: remove it, and see that no messages are missing") from error


def _write(path: Path, mark: Mark) -> None:
    partial = path.with_suffix(".new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(mark.model_dump_json())
    keep(partial, path)
