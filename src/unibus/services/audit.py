"""The audit trail: who did what to whom, from where, with what outcome. Append-only, in the store's own log, in order.

Every change and every refusal leaves an entry. What is done is only answered for once its entry is on disk: with a
store that takes no more, nothing goes on unseen. Refusals are bounded in number for each actor (`services.refusals`),
so that nobody fills the disk by being refused; the actor's next entry says how many were left out. Never holds a secret
or anything of a message.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Literal

from unibus.crypto.encoding import dump_json
from unibus.errors import StorageUnavailable, UnibusError
from unibus.model.wire import AuditEntry
from unibus.services.refusals import Refusals
from unibus.store.port import Append, PositionTaken, Store

ORIGIN: ContextVar[str] = ContextVar("unibus_origin", default="-")
"""Where what is being done comes from: the address of a request or of a bus connection."""

ACTOR: ContextVar[str] = ContextVar("unibus_actor", default="-")
"""Who does it, once that is proven: a public nkey."""

NOBODY = "-"
"""The actor, where none is proven."""

WAITING = 10_000  # refusals that may wait to be written

Outcome = Literal["ok", "refused"]


class Audit:
    """One node's trail. `open` before use; `clock` gives Unix seconds."""

    def __init__(self, store: Store, node: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._log = f"audit/{node}"
        self._clock = clock
        self._length = 0  # with the entries that are being written
        self._written = 0
        self._allowed = Refusals()
        self._waiting: set[asyncio.Task[None]] = set()
        self._grown = asyncio.Condition()

    async def open(self) -> None:
        """Find the end of the trail. Raises StorageUnavailable."""
        last = await self._store.last(self._log)
        self._length = self._written = last.position if last else 0

    async def close(self) -> None:
        """Write what waits."""
        await asyncio.gather(*self._waiting, return_exceptions=True)

    async def done(self, action: str, *, actor: str, target: str | None = None, **facts: str | int | None) -> None:
        """Note what was done; on disk when this returns. Raises StorageUnavailable."""
        await self._write(self._entry("ok", action, actor, target, facts, _counted(actor)))

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
        """Note a refusal, once, without waiting for it; beyond so many a minute only their number.

        `stranger` says that the actor has proven a key, but is no user.
        """
        if error.noted:
            return
        error.noted = True
        counted = None if stranger else _counted(actor)
        if len(self._waiting) >= WAITING or not self._allowed.take(counted, self._clock()):
            return
        reason = {"code": error.code, "reason": error.message[:200]}
        entry = self._entry("refused", action, actor, target, facts | reason, counted)
        task = asyncio.create_task(self._try_to_write(entry), name="audit")
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def read(self, after: int, limit: int) -> list[AuditEntry]:
        """Up to `limit` entries with numbers above `after`."""
        found = await self._store.entries(self._log, after, limit)
        return [AuditEntry.model_validate_json(entry.value) for entry in found]

    async def wait(self, after: int, seconds: float) -> None:
        """Return when there is an entry above `after`, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds), self._grown:
                await self._grown.wait_for(lambda: self._written > after)
        except TimeoutError:
            return

    def _entry(
        self,
        outcome: Outcome,
        action: str,
        actor: str,
        target: str | None,
        facts: Mapping[str, str | int | None],
        counted: str | None,
    ) -> dict[str, object]:
        entry: dict[str, object] = {
            "at": round(self._clock(), 3),
            "actor": actor,
            "action": action,
            "target": target,
            "origin": ORIGIN.get(),
            "outcome": outcome,
            "facts": {name: value for name, value in facts.items() if value is not None},
        }
        left_out = self._allowed.left_out(counted)
        return entry | ({"left_out": left_out} if left_out else {})

    async def _try_to_write(self, entry: dict[str, object]) -> None:
        try:
            await self._write(entry)
        except StorageUnavailable:
            # The refusal stands without its entry; what is done is what must never go unseen.
            return

    async def _write(self, entry: dict[str, object]) -> None:
        while True:
            # Taken before anything is waited for, so that entries of one moment share a commit.
            number = self._length = self._length + 1
            try:
                await self._store.append(Append(self._log, number, dump_json(entry | {"number": number})))
                break
            except PositionTaken as taken:
                # One before this failed, or somebody else wrote: of those that find out, the first has the next place.
                self._length = taken.length
        self._written = max(self._written, number)
        async with self._grown:
            self._grown.notify_all()


def _counted(actor: str) -> str | None:
    """As whom an actor is counted: None where none is proven."""
    return None if actor == NOBODY else actor
