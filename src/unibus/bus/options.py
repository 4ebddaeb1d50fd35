"""What the bus is told at its start. Values only; reading flags and the environment is for the daemon."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from unibus.bus.cluster import Cluster
from unibus.bus.keys import BusKeys
from unibus.bus.tls import BusTls


class BusAuth(StrEnum):
    """Who may connect: `enforce` only members, with what is theirs; `warn` everybody, logged; `off` everybody."""

    OFF = "off"
    WARN = "warn"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True)
class External:
    """A nats-server that somebody else runs, with the block of `external_config` for `keys`.

    `secure` is whether it is reached over TLS, with a certificate of the authorities in the file `ca`, None for the
    system's. `lease` is how many seconds a connection to it may last before it is decided on anew.
    """

    host: str
    port: int
    keys: BusKeys
    secure: bool = False
    ca: Path | None = None
    lease: int = 600

    @property
    def address(self) -> str:
        """Its URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.secure else 'nats'}://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class BusOptions:
    """`port` 0 takes a free one. `binary` None means the nats-server that was installed with unibus.

    `data_dir` must exist; the bus keeps its messages in `nats/` and its generated configuration in `run/` below it.
    `max_payload` is the largest message in bytes. `tls` None means none; `ws_host` None means no WebSocket listener.
    `cluster` None means that this node is alone; in one, `node` must be a name of its own. Members may have
    `connections` at once, and `max_store` bytes of messages are kept, None for what leaves a tenth of the disk.
    `records` is whether records are kept there too, and have to find room: then it is `reserve` that sees to
    `max_store`, and not nats-server. `operators` are the public nkeys of those who come with stock NATS tools.

    With `external`, there is no process of ours, and what only such a process needs is not used.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 4250
    mode: BusAuth = BusAuth.ENFORCE
    binary: Path | None = None
    node: str = "unibus"
    max_payload: int = 1 << 20
    tls: BusTls | None = None
    ws_host: str | None = None
    ws_port: int = 0
    cluster: Cluster | None = None
    external: External | None = None
    connections: int = 10_000
    max_store: int | None = None
    operators: tuple[str, ...] = ()
    records: bool = False

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What a server of ours inherits: the memory files of its certificates."""
        routes = self.cluster.tls if self.cluster is not None else None
        return tuple(fd for tls in (self.tls, routes) if tls is not None for fd in tls.descriptors)

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def store_dir(self) -> Path:
        return self.data_dir / "nats"

    @property
    def dial_host(self) -> str:
        """Where the daemon itself reaches the server: an any-address is reached over loopback."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - compared, not bound
