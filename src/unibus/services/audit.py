"""The audit trail: who did what to whom, from where, with what outcome. Append-only, in the store's own log, in order.

Every change and every refusal leaves an entry. What is done is only answered for once its entry is on disk: with a
store that takes no more, nothing goes on unseen. Refusals are bounded in number, so that nobody fills the disk by being
refused; the next entry says how many were left out. Those of strangers are counted apart: their noise hides no
user's. Never holds a secret or anything of a message.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Literal

from unibus.crypto.encoding import dump_json
from unibus.errors import StorageUnavailable, UnibusError
from unibus.model.wire import AuditEntry
from unibus.store.port import Append, PositionTaken, Store

ORIGIN: ContextVar[str] = ContextVar("unibus_origin", default="-")
"""Where what is being done comes from: the address of a request or of a bus connection."""

ACTOR: ContextVar[str] = ContextVar("unibus_actor", default="-")
"""Who does it, once that is proven: a public nkey."""

NOBODY = "-"
"""The actor, where none is proven."""

REFUSALS_A_MINUTE = 600
STRANGERS_A_MINUTE = 120
WAITING = 10_000  # refusals that may wait to be written

Outcome = Literal["ok", "refused"]


class Allowance:
    """So many in any one minute; what is over is counted. Pure: `now` is any clock in seconds."""

    def __init__(self, a_minute: int) -> None:
        self._a_minute = a_minute
        self._began = 0.0
        self._used = 0
        self.left_out = 0

    def take(self, now: float) -> bool:
        """Whether one more may be had at `now`."""
        if now - self._began >= 60:
            self._began, self._used = now, 0
        self._used += 1
        if self._used > self._a_minute:
            self.left_out += 1
            return False
        return True


class Audit:
    """One node's trail. `open` before use; `clock` gives Unix seconds."""

    def __init__(self, store: Store, node: str, clock: Callable[[], float]) -> None:
        self._store = store
        self._log = f"audit/{node}"
        self._clock = clock
        self._length = 0
        self._writing = asyncio.Lock()
        self._users = Allowance(REFUSALS_A_MINUTE)
        self._strangers = Allowance(STRANGERS_A_MINUTE)
        self._refusals: set[asyncio.Task[None]] = set()
        self._grown = asyncio.Condition()

    async def open(self) -> None:
        """Find the end of the trail. Raises StorageUnavailable."""
        last = await self._store.last(self._log)
        self._length = last.position if last else 0

    async def close(self) -> None:
        """Write what waits."""
        await asyncio.gather(*self._refusals, return_exceptions=True)

    async def done(self, action: str, *, actor: str, target: str | None = None, **facts: str | int | None) -> None:
        """Note what was done; on disk when this returns. Raises StorageUnavailable."""
        await self._write(self._entry("ok", action, actor, target, facts))

    def refused(
        self, action: str, error: UnibusError, *, actor: str, target: str | None = None, **facts: str | int | None
    ) -> None:
        """Note a refusal, once, without waiting for it; beyond so many a minute only their number."""
        if error.noted:
            return
        error.noted = True
        allowance = self._strangers if actor == NOBODY else self._users
        if not allowance.take(self._clock()) or len(self._refusals) >= WAITING:
            return
        reason = {"code": error.code, "reason": error.message[:200]}
        task = asyncio.create_task(
            self._try_to_write(self._entry("refused", action, actor, target, facts | reason)), name="audit"
        )
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)

    async def read(self, after: int, limit: int) -> list[AuditEntry]:
        """Up to `limit` entries with numbers above `after`."""
        found = await self._store.entries(self._log, after, limit)
        return [AuditEntry.model_validate_json(entry.value) for entry in found]

    async def wait(self, after: int, seconds: float) -> None:
        """Return when there is an entry above `after`, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds), self._grown:
                await self._grown.wait_for(lambda: self._length > after)
        except TimeoutError:
            return

    def _entry(
        self, outcome: Outcome, action: str, actor: str, target: str | None, facts: Mapping[str, str | int | None]
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
        left_out = self._users.left_out + self._strangers.left_out
        self._users.left_out = self._strangers.left_out = 0
        return entry | ({"left_out": left_out} if left_out else {})

    async def _try_to_write(self, entry: dict[str, object]) -> None:
        try:
            await self._write(entry)
        except StorageUnavailable:
            # The refusal stands without its entry; what is done is what must never go unseen.
            return

    async def _write(self, entry: dict[str, object]) -> None:
        async with self._writing:
            while True:
                number = self._length + 1
                try:
                    await self._store.append(Append(self._log, number, dump_json(entry | {"number": number})))
                    break
                except PositionTaken as taken:
                    self._length = taken.length
            self._length = number
        async with self._grown:
            self._grown.notify_all()
