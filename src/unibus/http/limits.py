"""Every limit of the HTTP side in one place: what a node takes, how much of it at once, and how long it waits.

Pure. `--rate-per-user`, `--appends-per-user`, `--rate-per-address` and `--max-connections` set those that depend on who
uses a bus; the others are part of the protocol: with another value a node would be one that clients cannot rely on.
"""

from dataclasses import dataclass

BURST_SECONDS = 10
"""For so many seconds' worth of its rate anybody may ask at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds, rates in requests a second; a rate of 0 is no limit."""

    target: int = 4096  # the request's address without scheme and host
    header: int = 8192  # a header's name or value
    headers: int = 64
    record_body: int = 131_072
    sealed_body: int = 32 * 2**20  # sealed keys of 10,000 members and room to spare
    held_bodies: int = 64 * 2**20  # of one user's bodies on their way at once, parts of blobs apart
    body_seconds: float = 30.0  # a whole body; parts of blobs have more, by their size
    request_seconds: float = 60.0  # from headers to answer, where no blob is moved
    idle_seconds: float = 75.0  # for the next complete set of headers, and for taking any of an answer
    linger_seconds: float = 2.0  # how long the rest of a refused body is dropped, so that its sender sees the answer
    connections: int = 500  # few enough where the system allows 1024 files and no more
    rate_per_user: int = 200
    appends_per_user: int = 10  # records, which are kept for good
    append_burst: int = 2000
    rate_per_address: int = 500  # loopback is exempt: there the address is a proxy's
    refusal_cost: int = 10  # requests that one from a stranger, or a TLS handshake, counts as
    remembered: int = 100_000  # users, and addresses, whose rate is known; less than 20 MB
