"""Dropping what a room no longer keeps: frames older than an age, and the oldest above a size.

Works on the stream by its own means and never on another room's frames: every purge names the room's subjects. Each
frame is looked at twice in its life, when it adds to its room's size and when it goes. Must never drop what fits: what
is remembered of a room counts only as long as its oldest frame is still that one.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from weakref import WeakValueDictionary

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

from unibus.bus import stream
from unibus.bus.links import Links
from unibus.errors import BusUnavailable
from unibus.model.subjects import STREAM, room_messages

TURN = 5_000
"""Frames that are looked at in one turn, for about a second; the next turn goes on there."""
_IDLE = 10.0  # seconds after which a consumer that looked through a room ends by itself
_BATCH = 500
Frame = tuple[int, int]
"""Sequence, and size in bytes."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The size in bytes of a room's frames from the sequence `first` to `last`; 0 and 0 when none were seen."""

    first: int = 0
    last: int = 0
    size: int = 0

    def add(self, frames: Sequence[Frame]) -> "Tally":
        """With the frames that follow."""
        if not frames:
            return self
        return Tally(self.first or frames[0][0], frames[-1][0], self.size + sum(size for _, size in frames))

    def drop(self, oldest: Sequence[Frame], most: int, end: int) -> "Tally | None":
        """Without the frames up to the sequence `end`, and without the oldest above `most` bytes; the newest stays.

        `oldest` are the room's oldest frames, and no more than those go. None if they are not the ones that were seen.
        """
        if not oldest or oldest[0][0] != self.first:
            return None
        size = self.size
        for sequence, one in oldest:
            if (sequence > end and size <= most) or sequence in {self.last, oldest[-1][0]}:
                return Tally(sequence, self.last, size)
            size -= one
        return None


class Retention:
    """What is known of rooms in one life of the server; each purge is done while `dropping` is entered."""

    def __init__(self, links: Links, dropping: Callable[[], AbstractAsyncContextManager[None]]) -> None:
        self._links = links
        self._dropping = dropping
        self._tallies: dict[str, Tally] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def retain(self, room: str, seconds: int | None, most: int | None, now: float) -> None:
        """Drop the room's frames older than `seconds` at the Unix time `now`, and the oldest above `most` bytes.

        Of a room with many frames that were not looked at yet the size is known, and kept to, some turns later. Raises
        BusUnavailable.
        """
        async with self._locks.setdefault(room, asyncio.Lock()):
            try:
                end = await _older_than(self._links, room, now - seconds) if seconds is not None else 0
                if most is not None:
                    end = max(end, await self._above(room, most, end))
            except (nats.errors.Error, JetStreamError, TimeoutError, OSError) as error:
                raise BusUnavailable(f"a room's retention could not be looked at: {error}") from error
            if end:
                async with self._dropping():
                    await self._links.jetstream(
                        f"STREAM.PURGE.{STREAM}", {"filter": room_messages(room), "seq": end + 1}
                    )

    async def _above(self, room: str, most: int, end: int) -> int:
        """The sequence up to which frames do not fit into `most` bytes once those up to `end` are gone."""
        tally = self._tallies.get(room, Tally())
        if tally.last <= end:
            tally = Tally(last=end)
        tally = tally.add(await _frames(self._links, room, tally.last))
        goes = 0
        if tally.first and (tally.first <= end or tally.size > most):
            # None of those that were seen: somebody else dropped some, and all is counted anew.
            tally = tally.drop(await _frames(self._links, room, 0), most, end) or Tally()
            goes = max(0, tally.first - 1)
        self._tallies[room] = tally
        return goes


async def drop(links: Links, room: str) -> int:
    """Drop all of the room's frames; how many there were. Raises BusUnavailable."""
    match await links.jetstream(f"STREAM.PURGE.{STREAM}", {"filter": room_messages(room)}):
        case {"purged": int(number)}:
            return number
        case _:
            raise BusUnavailable("nats-server does not say what it dropped")


async def _older_than(links: Links, room: str, moment: float) -> int:
    """The sequence before the room's first frame that came at or after the Unix time `moment`."""
    last = await stream.last_sequence(links)  # before it is looked: what comes meanwhile is not old
    config = {
        "deliver_policy": "by_start_time",
        "opt_start_time": datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z"),
        "filter_subject": room_messages(room),
        "ack_policy": "none",
        "inactive_threshold": int(_IDLE * 1e9),
        "mem_storage": True,
    }
    made = await links.jetstream(f"CONSUMER.CREATE.{STREAM}", {"stream_name": STREAM, "config": config})
    match made:
        case {"name": str(name), "delivered": {"stream_seq": int(before)}, "num_pending": int(pending)}:
            await links.jetstream(f"CONSUMER.DELETE.{STREAM}.{name}")
            return before if pending else last
        case _:
            raise BusUnavailable("nats-server's description of a consumer is not understood")


async def _frames(links: Links, room: str, after: int) -> list[Frame]:
    """The room's next frames after the sequence `after`, as many as are looked at in one turn."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=after + 1,
        ack_policy=AckPolicy.NONE,
        headers_only=True,
        inactive_threshold=_IDLE,
        mem_storage=True,
    )
    found: list[Frame] = []
    looking = await links.core.jetstream().pull_subscribe(room_messages(room), stream=STREAM, config=config)
    try:
        wanted = min(TURN, (await looking.consumer_info()).num_pending or 0)
        while len(found) < wanted:
            for frame in await looking.fetch(min(_BATCH, wanted - len(found)), timeout=_IDLE):
                size = int((frame.headers or {}).get("Nats-Msg-Size", "0"))
                found.append((frame.metadata.sequence.stream, size))
    finally:
        await looking.unsubscribe()
    return found
