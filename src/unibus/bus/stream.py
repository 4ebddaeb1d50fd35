"""The one stream that keeps every room's frames. Must never delete or purge anything."""

from collections.abc import Mapping

from unibus.bus.links import Links
from unibus.errors import BusUnavailable
from unibus.model.subjects import STORED, STREAM

_SECOND = 1_000_000_000
_MOST_CONSUMERS = 1_000_000
"""Must be said: for a stream that does not, nats-server 2.15 allows 1,000, which one member's deliveries would fill."""


def wanted(max_payload: int, replicas: int = 1) -> dict[str, object]:
    """The stream's settings as JetStream's API writes them; `max_payload` is the largest frame in bytes.

    Frames are only read through consumers that the daemon makes, so nothing that would let a message's header act
    on other messages (roll-up, time to live, schedules, counters) and no direct read is on. Two of one id within ten
    minutes are one frame: a client that lost its acknowledgement sends again.
    """
    return {
        "name": STREAM,
        "subjects": [STORED],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "num_replicas": replicas,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": max_payload,
        "max_msgs_per_subject": -1,
        "max_consumers": _MOST_CONSUMERS,
        "duplicate_window": 600 * _SECOND,
        "allow_direct": False,
        "mirror_direct": False,
        "allow_rollup_hdrs": False,
        "allow_msg_ttl": False,
        "allow_msg_counter": False,
        "allow_atomic": False,
        "allow_msg_schedules": False,
        "deny_delete": False,
        "deny_purge": False,
        "sealed": False,
    }


def differs(found: Mapping[str, object], settings: Mapping[str, object]) -> bool:
    """Whether a stream's configuration lacks or contradicts one of `settings`; JetStream leaves out what is false."""
    return any(found.get(name, False) != value for name, value in settings.items())


async def ensure(links: Links, max_payload: int, replicas: int = 1, *, bounded: bool) -> None:
    """Make the stream, or bring one that is there to these settings. Raises BusUnavailable.

    How many `replicas` there are is said only when it is made; operators raise that in place. `bounded`
    is whether others say how many bytes it may hold: `reserve`, or an external server's operator.
    """
    info = await links.jetstream(f"STREAM.INFO.{STREAM}")
    if info is None:
        await links.jetstream(f"STREAM.CREATE.{STREAM}", wanted(max_payload, replicas))
        return
    found = info["config"]
    if not isinstance(found, dict):
        raise BusUnavailable("nats-server's description of the stream is not understood")
    settings = wanted(max_payload, found.get("num_replicas", 1))
    if bounded:
        settings["max_bytes"] = found.get("max_bytes", -1)
    if differs(found, settings):
        await links.jetstream(f"STREAM.UPDATE.{STREAM}", settings)


async def info(links: Links) -> dict[str, object]:
    """What whoever leads the stream says of it. Raises BusUnavailable.

    Without a leader a server answers from what it has itself, which may be less than what readers have seen.
    """
    found = await links.jetstream(f"STREAM.INFO.{STREAM}")
    if found is None:
        raise BusUnavailable("the stream of messages is gone: restore the data directory")
    match found:
        case {"cluster": {"leader": str()}}:
            return found
        case _:
            raise BusUnavailable("the cluster is choosing who leads the messages' stream: try again")


async def last_sequence(links: Links) -> int:
    """The sequence of the newest frame ever kept. Raises BusUnavailable."""
    match await info(links):
        case {"state": {"last_seq": int(last)}}:
            return last
        case _:
            raise BusUnavailable("nats-server's description of the stream is not understood")
