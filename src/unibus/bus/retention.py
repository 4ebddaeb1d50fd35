"""Dropping what a room no longer keeps: frames older than an age, and the oldest above a size.

Works on the stream by its own means and never on another room's frames: every purge names the room's subjects.
"""

from collections import deque
from datetime import UTC, datetime

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

from unibus.bus import stream
from unibus.bus.links import Links
from unibus.errors import BusUnavailable
from unibus.model.subjects import STREAM, room_messages

_IDLE = 10.0  # seconds after which a consumer that looked through a room ends by itself
_BATCH = 1000


class Kept:
    """The newest frames that fit into `most` bytes, as frames come by in order. Pure."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._frames: deque[tuple[int, int]] = deque()
        self._size = 0
        self.dropped = 0

    def add(self, sequence: int, size: int) -> None:
        """Note the next frame."""
        self._frames.append((sequence, size))
        self._size += size
        while self._size > self._most and len(self._frames) > 1:
            self.dropped, gone = self._frames.popleft()
            self._size -= gone


async def retain(links: Links, room: str, seconds: int | None, most: int | None, now: float) -> None:
    """Drop the room's frames that are older than `seconds` at the Unix time `now`, and the oldest above `most` bytes.

    Raises BusUnavailable.
    """
    try:
        ends = [
            *([await _older_than(links, room, now - seconds)] if seconds is not None else []),
            *([await _above(links, room, most)] if most is not None else []),
        ]
    except (nats.errors.Error, JetStreamError, TimeoutError, OSError) as error:
        raise BusUnavailable(f"a room's retention could not be looked at: {error}") from error
    if last := max(ends, default=0):
        await links.jetstream(f"STREAM.PURGE.{STREAM}", {"filter": room_messages(room), "seq": last + 1})


async def _older_than(links: Links, room: str, moment: float) -> int:
    """The sequence before the room's first frame that came at or after the Unix time `moment`."""
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
            return before if pending else await stream.last_sequence(links)
        case _:
            raise BusUnavailable("nats-server's description of a consumer is not understood")


async def _above(links: Links, room: str, most: int) -> int:
    """The sequence of the newest frame that no longer fits into the room's newest `most` bytes, or 0."""
    kept = Kept(most)
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.NONE,
        headers_only=True,
        inactive_threshold=_IDLE,
        mem_storage=True,
    )
    looking = await links.core.jetstream().pull_subscribe(room_messages(room), stream=STREAM, config=config)
    try:
        pending = (await looking.consumer_info()).num_pending or 0
        while pending > 0:
            frames = await looking.fetch(min(_BATCH, pending), timeout=_IDLE)
            for frame in frames:
                kept.add(frame.metadata.sequence.stream, int((frame.headers or {}).get("Nats-Msg-Size", "0")))
            pending -= len(frames)
    finally:
        await looking.unsubscribe()
    return kept.dropped
