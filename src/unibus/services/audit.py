"""The audit trail: who did what to whom, from where, with what outcome. Append-only, in the store's own log, in order.

Every change and every refusal leaves an entry. What is done is only answered for once its entry is on disk, and a
record and its entry are written in one step: with a store that takes no more, nothing goes on unseen. Refusals are
bounded in number for each actor (`services.refusals`), so that nobody fills the disk by being refused; the actor's next
entry says how many were left out. Never holds a secret or anything of a message.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple

from unibus.crypto.encoding import dump_json, load_json
from unibus.errors import StorageUnavailable, UnibusError
from unibus.model.wire import AuditEntry
from unibus.services.refusals import Refusals
from unibus.store.port import Append, Store

ORIGIN: ContextVar[str] = ContextVar("unibus_origin", default="-")
"""Where what is being done comes from: the address of a request or of a bus connection."""

ACTOR: ContextVar[str] = ContextVar("unibus_actor", default="-")
"""Who does it, once that is proven: a public nkey."""

NOBODY = "-"
"""The actor, where none is proven."""

WAITING = 10_000  # refusals that may wait to be written

Outcome = Literal["ok", "refused"]


class _Line(NamedTuple):
    """An entry to write, as whom its actor is counted, and how many of theirs it says were left out."""

    entry: Append
    counted: str | None
    left_out: int


class Audit:
    """One node's trail. `open` before use; `clock` gives Unix seconds."""

    def __init__(self, store: Store, node: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._log = f"audit/{node}"
        self._clock = clock
        self._allowed = Refusals()
        self._waiting: set[asyncio.Task[None]] = set()
        self._grown = asyncio.Event()

    async def close(self) -> None:
        """Write what waits."""
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def done(self, action: str, *, actor: str, target: str | None = None, **facts: str | int | None) -> None:
        """Note what was done; on disk when this returns. Raises StorageUnavailable."""
        with self.noting(action, actor=actor, target=target, **facts) as entry:
            await self._store.append(entry)

    def noting(
        self, action: str, *, actor: str, target: str | None = None, **facts: str | int | None
    ) -> AbstractContextManager[Append]:
        """The entry of what is done within, which writes it in the same step, or raises."""
        return self._written(self._line("ok", action, actor, target, facts, _counted(actor)))

    def refused(
        self,
        action: str,
        error: UnibusError,
        *,
        actor: str,
        target: str | None = None,
        stranger: bool = False,
        **facts: str | int | None,
    ) -> None:
        """Note a refusal, once, without waiting for it; beyond so many only their number.

        `stranger` says that the actor has proven a key, but is no user.
        """
        if error.noted:
            return
        error.noted = True
        counted = None if stranger else _counted(actor)
        if len(self._waiting) >= WAITING or not self._allowed.take(counted, self._clock()):
            return
        reason = {"code": error.code, "reason": error.message[:200]}
        line = self._line("refused", action, actor, target, facts | reason, counted)
        task = asyncio.create_task(self._try_to_write(line), name="audit")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def read(self, after: int, limit: int) -> list[AuditEntry]:
        """Up to `limit` entries with numbers above `after`."""
        found = await self._store.entries(self._log, after, limit)
        return [read_entry(entry.position, entry.value) for entry in found]

    async def wait(self, after: int, seconds: float) -> None:
        """Return when there is an entry above `after`, or after `seconds`. Raises StorageUnavailable."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                grown = self._grown
                while not await self._store.entries(self._log, after, 1):
                    await grown.wait()
                    grown = self._grown

    def _line(
        self,
        outcome: Outcome,
        action: str,
        actor: str,
        target: str | None,
        facts: Mapping[str, str | int | None],
        counted: str | None,
    ) -> _Line:
        left_out = self._allowed.left_out(counted)
        entry: dict[str, object] = {
            "at": round(self._clock(), 3),
            "actor": actor,
            "action": action,
            "target": target,
            "origin": ORIGIN.get(),
            "outcome": outcome,
            "facts": {name: value for name, value in facts.items() if value is not None},
        }
        if left_out:
            entry["left_out"] = left_out
        return _Line(Append(self._log, None, dump_json(entry)), counted, left_out)

    @contextmanager
    def _written(self, line: _Line) -> Iterator[Append]:
        try:
            yield line.entry
        except BaseException:
            self._allowed.give_back(line.counted, line.left_out)
            raise
        self._grown.set()
        self._grown = asyncio.Event()

    async def _try_to_write(self, line: _Line) -> None:
        # The refusal stands without its entry; what is done is what must never go unseen.
        with contextlib.suppress(StorageUnavailable), self._written(line) as entry:
            await self._store.append(entry)


def _counted(actor: str) -> str | None:
    """As whom an actor is counted: None where none is proven."""
    return None if actor == NOBODY else actor


def read_entry(position: int, value: bytes) -> AuditEntry:
    """The entry that a trail has at this position. Raises InvalidInput, ValueError for what is none."""
    found = load_json(value)
    # Where it stands is its number. Entries once held that, too.
    return AuditEntry.model_validate({"number": position, **found} if isinstance(found, dict) else found)
