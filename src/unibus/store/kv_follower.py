"""Brings what the bucket's leader takes into this node's replica, in the order of the stream.

Messages are told as they are taken (republish). What was not told, because the connection or a leader was lost, is seen
by its missing number and asked for. Must never skip a number that may hold an entry, and never change an entry.
"""

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from structlog.typing import FilteringBoundLogger

from unibus.errors import StorageUnavailable
from unibus.store.kv_bucket import Bucket, Message
from unibus.store.kv_entry import Unreadable, part_key, read_head, read_log_key, unescape, unpack, unpack_run
from unibus.store.kv_progress import Progress
from unibus.store.kv_replica import Replica
from unibus.store.port import Append, PositionTaken
from unibus.store.sqlite_plan import Place

MOST_WAITING = 64 * 1024 * 1024
"""Bytes that wait to be taken over; what is told beyond that is asked for later."""
_MOST_AT_ONCE = 512
_OVERHEAD = 1024  # bytes, about what a message takes beside its value
REPLACED = "the cluster's bucket of records was replaced"
_LAG_PAUSE = 0.02  # seconds between two questions to a server that is behind
_PARTS_WITHIN = 2.0  # seconds


class NodeBeat(NamedTuple):
    """A node's last sign of life: what it said, and when the cluster took it, in Unix seconds and as a sequence."""

    value: bytes
    at: float
    seq: int


class Applied(NamedTuple):
    """An entry that the replica has from now on, its position, and the tag of who wrote it."""

    append: Append
    position: int
    tag: bytes


def digest(message: Message) -> bytes:
    """What tells an entry's message from any other."""
    return hashlib.sha256(message.key.encode() + b"\0" + message.value).digest()


class Replaced(StorageUnavailable):
    """A number was given out twice: this is not the stream that was followed, and all has to be looked at anew."""


class Follower:
    """Follows `bucket`, the stream `stream`, while `run` runs. `heard` is told of entries once they are there."""

    def __init__(
        self,
        bucket: Bucket,
        replica: Replica,
        progress: Progress,
        stream: str,
        nodes: MutableMapping[str, NodeBeat],
        heard: Callable[[Sequence[Applied]], None],
        log: FilteringBoundLogger,
    ) -> None:
        self._bucket = bucket
        self._replica = replica
        self._progress = progress
        self._stream = stream
        self._nodes = nodes
        self._heard = heard
        self._log = log
        self._told: deque[Message] = deque()
        self._waiting = 0
        self._wanted = 0
        self._newest = math.inf
        self._wake = asyncio.Event()

    async def look(self) -> None:
        """See which nodes there are."""
        self._nodes.clear()
        for message in await self._bucket.latest("node.*"):
            self._note(message)

    def told(self, message: Message) -> None:
        """Take note of what the bucket tells. Raises Replaced."""
        if message.sequence <= self._progress.applied and message.at > self._newest:
            raise Replaced(REPLACED)
        self._arrived(message)

    async def run(self) -> None:
        """Take over what there is and what comes, without end. Raises StorageUnavailable, errors of `nats.errors`."""
        while True:
            if messages := self._next():
                await self._take_over(messages)
            elif self._wanted <= self._progress.applied:
                await self._wake.wait()
                self._wake.clear()
            elif messages := await self._bucket.after(self._progress.applied):
                await self._take_over(messages)
            else:
                await asyncio.sleep(_LAG_PAUSE)

    def want(self, sequence: int) -> None:
        """Ask for what there is up to `sequence`: it seems not to have been told."""
        self._wanted = max(self._wanted, sequence)
        self._wake.set()

    def _arrived(self, message: Message) -> None:
        if message.key.startswith("part."):
            message = replace(message, value=b"")  # asked for when the entry that names it comes
        if self._waiting + len(message.value) + _OVERHEAD > MOST_WAITING:
            self.want(message.sequence)
            return
        self._waiting += len(message.value) + _OVERHEAD
        self._told.append(message)
        self._wake.set()

    def _next(self) -> list[Message]:
        """The messages told that follow, without a gap, on what is applied."""
        found: list[Message] = []
        reached = self._progress.applied
        while self._told and len(found) < _MOST_AT_ONCE and self._told[0].sequence <= reached + 1:
            message = self._told.popleft()
            self._waiting -= len(message.value) + _OVERHEAD
            if message.sequence > reached:
                found.append(message)
                reached = message.sequence
        if self._told and not found:
            self._wanted = max(self._wanted, self._told[0].sequence)
        return found

    async def _take_over(self, messages: Sequence[Message]) -> None:
        read: list[tuple[Message, list[Applied]]] = []
        for message in messages:
            if message.key.startswith("log."):
                if message.deleted:
                    self._log.error("somebody deleted a record from the cluster; this node keeps it", key=message.key)
                    continue
                read.append((message, await self._read(message)))
            else:
                self._note(message)
        self._kept(messages[-1], await self._keep(read) if read else [])

    def _kept(self, message: Message, entries: Sequence[Applied]) -> None:
        self._newest = message.at
        self._progress.advance(message.sequence)
        self._heard(entries)

    async def _keep(self, read: Sequence[tuple[Message, list[Applied]]]) -> list[Applied]:
        last, _ = read[-1]
        entries = [entry for _, of_one in read for entry in of_one]
        try:
            place = Place(self._stream, last.sequence, digest(last))
            await self._replica.take((entry.append for entry in entries), place)
        except PositionTaken:
            if len(read) > 1:
                for one in read:  # each is told of at once: the next may not be taken over at all
                    self._kept(one[0], await self._keep([one]))
                return []
            append, position, _ = entries[0]
            if position > await self._replica.length(append.log):
                raise StorageUnavailable(
                    f"the cluster lacks records of {append.log} before number {position}: restore a backup"
                ) from None
            # Writers only ever create keys. Who overwrites one holds the cluster's own login.
            self._log.error(
                "somebody overwrote a record in the cluster; this node keeps the first",
                log=append.log,
                position=position,
            )
            return []
        return entries

    async def _read(self, message: Message) -> list[Applied]:
        try:
            log, position = read_log_key(message.key)
            head = read_head(message.value)
            if head.run:
                appends = unpack_run(log, position, head.body)
                return [Applied(append, place, head.tag) for place, append in enumerate(appends, position)]
            body = head.body + b"".join(
                [await self._part(part_key(head.tag, number), wanted) for number, wanted in enumerate(head.digests)]
            )
            return [Applied(unpack(log, position, body), position, head.tag)]
        except Unreadable as error:
            raise StorageUnavailable(
                f"the cluster holds {message.key}, which this version cannot read: upgrade this node"
            ) from error

    async def _part(self, key: str, wanted: bytes) -> bytes:
        try:
            async with asyncio.timeout(_PARTS_WITHIN):
                while not (found := await self._bucket.latest(key)):  # noqa: ASYNC110 - a server that is behind sends no event
                    await asyncio.sleep(_LAG_PAUSE)
        except TimeoutError as error:
            raise StorageUnavailable(f"the cluster does not give {key}, a part of a record") from error
        if hashlib.sha256(found[0].value).digest() != wanted:
            raise StorageUnavailable(f"the cluster holds {key}, a part of a record, with other bytes: restore a backup")
        return found[0].value

    def _note(self, message: Message) -> None:
        kind, _, token = message.key.partition(".")
        if kind != "node":
            return
        try:
            name = unescape(token)
        except Unreadable:
            return  # not written by a node
        if message.deleted:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = NodeBeat(message.value, message.at, message.sequence)
