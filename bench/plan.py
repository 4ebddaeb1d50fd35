"""How much is measured. Every number here only bounds the time a run takes; none changes what is compared."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of one run. `rounds` are counted, one more before them is thrown away; times are in seconds."""

    rounds: int
    long_rounds: int
    """Of what takes long; no round is thrown away there."""
    publish_seconds: float
    receive_bytes: int
    """How much is read in one round: as many messages as fit, `receive_most` at most."""
    receive_most: int
    latency_messages: int
    requests: int
    windows: tuple[int, ...]
    """How many unacknowledged messages a client may have; the fastest is found before it is measured."""
    appends: int
    connections: int
    users: int
    """Of how many users those connections are, and how many others are there when somebody is cut off."""
    blob_bytes: int
    idle_seconds: float
    changes: int
    """How many rooms are made, and people taken in, beside a homeserver."""
    sends: int
    """How many messages go, each waited for, into as many of these rooms as are written at once."""
    herd: int
    """How many are connected when a server is killed, `restarts` times."""
    restarts: int
    kills: int
    """How often the leader of a cluster is killed."""
    cuts: int
    """How often each kind of right is taken away."""
    receivers: tuple[int, ...]
    """To how many a message goes, in each case of fan-out."""
    deliveries: int
    rooms: int
    records: int
    """How large a bus is that has grown for years."""
    members: int
    """How many are in the room that somebody is removed from."""
    newcomer_members: int
    """How many are in the room that a newcomer opens."""


DEFAULT = Plan(
    rounds=5,
    long_rounds=5,
    publish_seconds=1.0,
    receive_bytes=64 * 2**20,
    receive_most=100_000,
    latency_messages=400,
    requests=5_000,
    windows=(256, 1_000, 4_000),
    appends=2_000,
    connections=3_000,
    users=1_000,
    blob_bytes=256 * 2**20,
    idle_seconds=10.0,
    changes=100,
    sends=20,
    herd=5_000,
    restarts=3,
    kills=7,
    cuts=30,
    receivers=(10, 100),
    deliveries=20_000,
    rooms=100_000,
    records=1_000_000,
    members=1_000,
    newcomer_members=10_000,
)
QUICK = Plan(
    rounds=3,
    long_rounds=3,
    publish_seconds=0.4,
    receive_bytes=24 * 2**20,
    receive_most=40_000,
    latency_messages=150,
    requests=2_000,
    windows=(256, 1_000),
    appends=500,
    connections=500,
    users=200,
    blob_bytes=32 * 2**20,
    idle_seconds=2.0,
    changes=20,
    sends=4,
    herd=500,
    restarts=2,
    kills=2,
    cuts=5,
    receivers=(10,),
    deliveries=5_000,
    rooms=500,
    records=2_000,
    members=50,
    newcomer_members=50,
)
