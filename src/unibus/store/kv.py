"""The store's engine for a cluster: one JetStream KV bucket, and a replica of it on each node that is read from.

Implements `unibus.store.port.Store`. A write is answered when a majority of the bucket's replicas acknowledged it and
this node can read it. Must never answer from a replica that is not proven current, nor tell a write as failed that may
have been done.
"""

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import nats.errors
from structlog.typing import FilteringBoundLogger

from unibus.errors import StorageUnavailable
from unibus.store.kv_entry import claim_key, node_key
from unibus.store.kv_follower import Applied, NodeBeat
from unibus.store.kv_node import Dial, KvNode
from unibus.store.kv_parts import PartSweep
from unibus.store.kv_posture import describe
from unibus.store.kv_replica import open_replica
from unibus.store.kv_writer import UNKNOWN, KvWriter, check_names, told
from unibus.store.port import Append, Counts, Entry
from unibus.store.sqlite import to_add
from unibus.store.sqlite_errors import CLOSED
from unibus.store.sqlite_plan import Adds

LEASE = 5.0
MARGIN = 600
"""Seconds for which a claim outlives its end: no clock of the cluster may be further off than this."""
KEPT_PAST = 86_400
"""Seconds for which a claim is kept that had ended when it was made, if nobody has it forgotten before."""
LONGEST_CLAIM = 10 * 365 * 86_400
_POSTURE_WITHIN = 1.0

T = TypeVar("T")
Heard = Callable[[str, int, bytes], None]
"""Hears of an entry: its log, position and value."""


def boottime() -> float:
    """Seconds on a clock that nobody sets and that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class KvStore:
    """Implements `unibus.store.port.Store` on a cluster. Made by `open`; `close` it."""

    def __init__(
        self,
        make_node: Callable[[Callable[[Sequence[Applied]], None]], KvNode],
        clock: Callable[[], float],
        durable: Callable[[], Awaitable[bool]],
        random: Callable[[int], bytes],
    ) -> None:
        self._writer = KvWriter(lambda: self._node, random)
        self._node = make_node(self._heard)
        self._parts = PartSweep(lambda: self._node)
        self._clock = clock
        self._durable = durable
        self._begun: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._past: dict[str, int] = {}
        self._callbacks: list[Heard] = []

    @classmethod
    async def open(
        cls,
        replica: Path,
        dial: Dial,
        *,
        node: str,
        replicas: int,
        log: FilteringBoundLogger,
        clock: Callable[[], float],
        beat: Callable[[], bytes],
        durable: Callable[[], Awaitable[bool]],
        lease: float = LEASE,
        bucket: str = "unibus",
        monotonic: Callable[[], float] = boottime,
        random: Callable[[int], bytes] = os.urandom,
    ) -> "KvStore":
        """The store with its copy in the file `replica`. Does not wait for the cluster: see `wait_current`.

        `dial` connects to the node's own server, in the account that has JetStream, and need not try twice. The bucket
        is made with `replicas` if it is not there. `beat` gives what the node called `node` tells the others every
        second; `durable` whether the server syncs before it acknowledges. A proof holds for `lease` seconds of
        `monotonic`; `clock` gives Unix seconds. Raises StartRefused, StorageUnavailable when the file cannot be used.
        """
        opened = await open_replica(replica, log)

        def make_node(heard: Callable[[Sequence[Applied]], None]) -> KvNode:
            return KvNode(
                opened,
                replica,
                dial,
                bucket=bucket,
                node=node,
                replicas=replicas,
                log=log,
                monotonic=monotonic,
                lease=lease,
                beat=beat,
                heard=heard,
            )

        return cls(make_node, clock, durable, random)

    def current(self) -> str | None:
        """None if what can be read here is current; why not otherwise."""
        refusal = self._node.refusal()
        return None if refusal is None else refusal.message

    async def wait_current(self) -> None:
        """Return once what can be read here is current."""
        while self._node.refusal() is not None:
            self._require_open()
            await self._node.progress.proof()

    def heard(self, callback: Heard) -> None:
        """Have `callback` told of each entry that can be read here from now on, in order. It must not raise."""
        self._callbacks.append(callback)

    def nodes(self) -> Mapping[str, NodeBeat]:
        """What each node last said, as this one has heard it."""
        return dict(self._node.nodes)

    async def forget_node(self, name: str) -> None:
        """Have all nodes forget what a node last said that will not come back. Raises StorageUnavailable."""
        self._require_current()
        async with told(UNKNOWN):
            await self._node.bucket.delete(node_key(name))

    async def sweep_parts(self, before: float) -> int:
        """Drop parts of large entries that the cluster took before the Unix time `before` and that no entry refers to.

        How many entries they were meant for. Raises StorageUnavailable.
        """
        self._require_open()
        self._require_current()
        return await self._parts.sweep(before)

    async def append(self, *changes: Append) -> None:
        """See `Store.append`."""
        adds = Adds(tuple(map(to_add, changes)))
        check_names(adds.adds)
        await self._finish(self._writer.append(adds))

    async def last(self, log: str) -> Entry | None:
        """See `Store.last`."""
        return await self._read(lambda: self._node.replica.last(log))

    async def entries(self, log: str, after: int, limit: int) -> list[Entry]:
        """See `Store.entries`."""
        return await self._read(lambda: self._node.replica.entries(log, after, limit))

    async def logs(self, prefix: str, after: str, limit: int) -> list[str]:
        """See `Store.logs`."""
        return await self._read(lambda: self._node.replica.logs(prefix, after, limit))

    async def attachments(self, log: str, name: str, after: int, limit: int) -> list[Entry]:
        """See `Store.attachments`."""
        return await self._read(lambda: self._node.replica.attachments(log, name, after, limit))

    async def marks(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """See `Store.marks`."""
        return await self._read(lambda: self._node.replica.marks(prefix, after, limit))

    async def snapshot(self, path: Path) -> None:
        """See `Store.snapshot`."""
        await self._read(lambda: self._node.replica.snapshot(path))

    async def counts(self, prefix: str) -> Counts:
        """See `Store.counts`."""
        return await self._read(lambda: self._node.replica.counts(prefix))

    async def claim(self, name: str, expires_at: int) -> bool:
        """See `Store.claim`. The cluster itself drops a claim `MARGIN` seconds after its end."""
        return await self._finish(self._claim(claim_key(name), expires_at))

    async def forget_claims(self, now: int) -> int:
        """See `Store.forget_claims`: what had ended when it was claimed here. All others go by themselves."""
        return await self._finish(self._forget(now))

    async def sync(self) -> None:
        """See `Store.sync`. Raises StorageUnavailable when the cluster does not answer within 2 s."""
        self._require_open()
        async with told("this node did not catch up with the cluster in time: try again"):
            await self._node.sync()

    async def posture(self) -> Mapping[str, object]:
        """See `Store.posture`; the rest is `kv_posture.describe`'s."""
        self._require_open()
        info = None
        with contextlib.suppress(StorageUnavailable, nats.errors.Error, OSError, TimeoutError):
            info = await self._node.bucket.info(_POSTURE_WITHIN)
        durable = await self._durable()
        return describe(info, self.current(), self._node.progress.applied, durable=durable)

    async def close(self) -> None:
        """See `Store.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        if self._begun:
            await asyncio.wait(self._begun)
        await self._node.close()

    async def _claim(self, key: str, expires_at: int) -> bool:
        left = math.ceil(expires_at - self._clock())
        kept = left + MARGIN if left > 0 else KEPT_PAST
        if not await self._writer.claim(key, b"%d" % expires_at, kept if kept < LONGEST_CLAIM else None):
            return False
        if left <= 0:
            self._past[key] = expires_at
        return True

    async def _forget(self, now: int) -> int:
        ended = [key for key, expires_at in self._past.items() if expires_at < now]
        for key in ended:
            async with told(UNKNOWN):
                await self._node.bucket.purge(key)
            del self._past[key]
            self._writer.forget(key)
        return len(ended)

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` to its end, also when the caller goes away or the store is closed meanwhile."""
        try:
            self._require_open()
            self._require_current()
        except StorageUnavailable:
            work.close()
            raise
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        task.add_done_callback(_look)
        return await asyncio.shield(task)

    async def _read(self, question: Callable[[], Awaitable[T]]) -> T:
        self._require_open()
        self._require_current()
        try:
            return await question()
        finally:
            # A process that was stopped while it read finds out here, before it answers.
            self._require_current()

    def _require_open(self) -> None:
        if self._closing is not None:
            raise StorageUnavailable(CLOSED)

    def _require_current(self) -> None:
        if (refusal := self._node.refusal()) is not None:
            raise refusal

    def _heard(self, entries: Sequence[Applied]) -> None:
        self._writer.heard(entries)
        for append, position, _ in entries:
            for callback in self._callbacks:
                callback(append.log, position, append.value)


def _look(task: "asyncio.Task[Any]") -> None:
    # Who wanted to know may be gone, and an error that nobody looks at is reported as a fault of the program.
    if not task.cancelled():
        task.exception()
