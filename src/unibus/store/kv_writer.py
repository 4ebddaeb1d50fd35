"""The KV engine's writer: what waits goes to the cluster in batches, each stored whole or not at all (NATS ADR-50).

A batch costs a majority's disks one sync, however many entries or claims are in it. Must never take anything for
written before the cluster acknowledged it and this node can read it, nor tell as refused what may have been done.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import nats.errors

from unibus.errors import StorageUnavailable
from unibus.store.kv_bucket import WITHIN, Create
from unibus.store.kv_entry import PART_BYTES, TAG_BYTES, Run, Stored, gather, log_key, pack, part_key
from unibus.store.kv_follower import Applied
from unibus.store.kv_node import KvNode
from unibus.store.kv_queue import SLOW, Queue, Waiter
from unibus.store.port import PositionTaken
from unibus.store.sqlite_plan import Add, Adds, place_all

UNKNOWN = "the cluster did not answer, so it is not known whether this was done: it may be repeated"
MOST_APPENDS = 128
MOST_CLAIMS = 256
FEW_CLAIMS = 8
"""So many creates, side by side, are sooner on disk than one batch of them."""
_REMEMBERED = 16_384  # claims
_RETRY = 0.25  # seconds after which a place that seemed taken, but was not filled, is tried again

Appends = Waiter[Adds, None]
Claims = Waiter[Create, bool]


class _Packed(NamedTuple):
    """Entries that are to be one message, and that message, with the tag that tells it from others' of the same key."""

    run: Run
    tag: bytes
    stored: Stored

    @property
    def key(self) -> str:
        return log_key(self.run.adds[0].label, self.run.first)


class KvWriter:
    """Writes by way of `node`; tell it with `heard` what the replica has. `random` gives so many random bytes."""

    def __init__(self, node: Callable[[], KvNode], random: Callable[[int], bytes]) -> None:
        self._get_node = node
        self._random = random
        self._appends: Queue[Adds, None] = Queue(self._write_all, MOST_APPENDS, PART_BYTES, WITHIN)
        self._claims: Queue[Create, bool] = Queue(self._claim_all, MOST_CLAIMS, PART_BYTES, WITHIN)
        self._awaited: dict[tuple[str, int], asyncio.Future[bytes]] = {}
        self._claimed: OrderedDict[str, None] = OrderedDict()

    @property
    def _node(self) -> KvNode:
        return self._get_node()

    async def append(self, adds: Adds) -> None:
        """Add the entries. Raises PositionTaken, StorageUnavailable."""
        await self._appends.put(adds, adds.size)

    async def claim(self, key: str, value: bytes, seconds: int | None) -> bool:
        """Create `key`, which the cluster drops after `seconds`; whether it was not there.

        Raises StorageUnavailable.
        """
        create = Create(key, value, seconds)
        if key in self._claimed:
            # Whoever repeats what is claimed already must not break up the batches of others.
            return await self._claim(create)
        claimed = await self._claims.put(create)
        self._claimed[key] = None
        if len(self._claimed) > _REMEMBERED:
            self._claimed.popitem(last=False)
        return claimed

    def forget(self, key: str) -> None:
        """The claim of `key` was taken back."""
        self._claimed.pop(key, None)

    def heard(self, entries: Sequence[Applied]) -> None:
        """The replica has these from now on."""
        for append, position, tag in entries:
            filled = self._awaited.get((append.log, position))
            if filled is not None and not filled.done():
                filled.set_result(tag)

    async def _claim_all(self, claims: Sequence[Claims]) -> None:
        first: dict[str, Claims] = {}
        for waiter in claims:
            first.setdefault(waiter.what.key, waiter)
        again = [waiter for waiter in claims if first[waiter.what.key] is not waiter]
        if len(first) > FEW_CLAIMS and await self._create([waiter.what for waiter in first.values()]):
            for waiter in first.values():
                waiter.settle(True)
        # In a batch that was refused some may be claimed; which ones, each finds out alone.
        await asyncio.gather(*(self._claim_alone(waiter) for waiter in first.values() if not waiter.answer.done()))
        await asyncio.gather(*(self._claim_alone(waiter) for waiter in again))

    async def _claim_alone(self, waiter: Claims) -> None:
        try:
            waiter.settle(await self._claim(waiter.what))
        except StorageUnavailable as error:
            waiter.settle(error)

    async def _claim(self, create: Create) -> bool:
        return await self._create([create])

    async def _create(self, creates: Sequence[Create]) -> bool:
        async with told(UNKNOWN):
            began = self._node.began()
            sequence = await self._node.bucket.create(creates)
            if sequence is not None:
                await self._acknowledged(sequence, began)
        return sequence is not None

    async def _acknowledged(self, sequence: int, began: float) -> None:
        self._node.progress.acknowledged(sequence, began)
        await self._node.reach(sequence)

    async def _write_all(self, appends: Sequence[Appends]) -> None:
        if await self._write(appends):
            return
        left = [waiter for waiter in appends if not waiter.answer.done()]
        if len(left) > 1:
            # One that somebody else was faster with must not keep the others.
            for waiter in left:
                try:
                    await self._write_all([waiter])
                except StorageUnavailable as error:
                    waiter.settle(error)
            return
        async with told(SLOW):
            while not await self._write(left):  # noqa: ASYNC110 - that somebody's write came to nothing is no event
                await asyncio.sleep(_RETRY)

    async def _write(self, appends: Sequence[Appends]) -> bool:
        """Whether all have their answer; if not, a place was taken, and the replica knows which, or will soon."""
        placed = await self._place(appends)
        if not placed:
            return True
        runs = gather(chain.from_iterable(zip(one.what.adds, places, strict=True) for one, places in placed))
        tags = [self._random(TAG_BYTES) for _ in runs]
        packed = [_Packed(run, tag, pack(run.adds, tag)) for run, tag in zip(runs, tags, strict=True)]
        for each in packed:
            await self._write_parts(each)
        if await self._fill(packed):
            for one, _ in placed:
                one.settle(None)
            return True
        for each in packed:
            await self._drop_parts(each)
        async with told(SLOW):
            await self._node.sync()
        return False

    async def _place(self, appends: Sequence[Appends]) -> list[tuple[Appends, tuple[int, ...]]]:
        """Where the entries go. Who asked for a place that is taken is told so."""
        found = await self._places(appends)
        if any(isinstance(places, PositionTaken) and _beyond(one.what, places) for one, places in found):
            async with told("this node did not catch up with the cluster in time: try again"):
                await self._node.sync()
            found = await self._places(appends)
        placed = []
        for waiter, places in found:
            if isinstance(places, PositionTaken):
                waiter.settle(places)
            else:
                placed.append((waiter, places))
        return placed

    async def _places(self, appends: Sequence[Appends]) -> list[tuple[Appends, tuple[int, ...] | PositionTaken]]:
        lengths = await self._node.replica.lengths({add.log for waiter in appends for add in waiter.what.adds})
        return [(waiter, place_all(waiter.what.adds, lengths)) for waiter in appends]

    async def _write_parts(self, packed: _Packed) -> None:
        """Write all parts but the last, which goes with what refers to them, so that a sweep can stand in the way."""
        for number, part in enumerate(packed.stored.parts[:-1]):
            async with told("the cluster did not take a large record in time: try again"):
                if await self._node.bucket.create([Create(part_key(packed.tag, number), part)]) is None:
                    raise StorageUnavailable("a large record took so long that it was swept away: try again")

    async def _drop_parts(self, packed: _Packed) -> None:
        if packed.stored.parts:
            with contextlib.suppress(StorageUnavailable, nats.errors.Error, OSError):
                await self._node.bucket.purge(part_key(packed.tag, "*"))

    async def _fill(self, packed: Sequence[_Packed]) -> bool:
        """Whether all the places were filled by this; else none of them were."""
        ends = [(each.tag, each.stored.parts) for each in packed if each.stored.parts]
        creates = [Create(part_key(tag, len(parts) - 1), parts[-1]) for tag, parts in ends]
        creates += [Create(each.key, each.stored.data) for each in packed]
        last = packed[-1]
        place = last.run.adds[0].label, last.run.first  # whoever else writes there wants this one, too
        filled = self._awaited[place] = asyncio.get_running_loop().create_future()
        began = self._node.began()
        trying = asyncio.create_task(self._node.bucket.create(creates))
        trying.add_done_callback(_look)
        try:
            async with told(UNKNOWN):
                # The replica tells who filled the place, whatever becomes of the answer.
                waited: list[asyncio.Future[Any]] = [trying, filled]
                await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                if filled.done():
                    return bool(filled.result() == last.tag)
                sequence = await trying
                if sequence is None:
                    return False
                await self._acknowledged(sequence, began)
                return True
        finally:
            trying.cancel()
            del self._awaited[place]
            filled.cancel()


def _beyond(adds: Adds, taken: PositionTaken) -> bool:
    """Whether what was refused was for a place that this node may just not have heard of yet."""
    return any(add.position is not None and add.position > taken.length + 1 for add in adds.adds)


def check_names(adds: Sequence[Add]) -> None:
    """Raise InvalidInput for a log's name that cannot be part of a key."""
    for add in adds:
        log_key(add.label, 1)


def _look(task: "asyncio.Task[Any]") -> None:
    # Who wanted to know may be gone, and an error that nobody looks at is reported as a fault of the program.
    if not task.cancelled():
        task.exception()


@contextlib.asynccontextmanager
async def told(late: str) -> AsyncIterator[None]:
    """Bounds what waits for the cluster, and turns the ways in which it may not answer into errors to tell."""
    try:
        async with asyncio.timeout(WITHIN):
            yield
    except (TimeoutError, nats.errors.Error, OSError) as error:
        raise StorageUnavailable(late) from error
