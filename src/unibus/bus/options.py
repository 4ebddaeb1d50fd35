"""What the bus is told at its start. Values only; reading flags and the environment is for the daemon."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from unibus.bus.tls import BusTls


class BusAuth(StrEnum):
    """Who may connect: `enforce` only members, with what is theirs; `warn` everybody, logged; `off` everybody."""

    OFF = "off"
    WARN = "warn"
    ENFORCE = "enforce"


@dataclass(frozen=True, slots=True)
class BusOptions:
    """`port` 0 takes a free one. `binary` None means the nats-server that was installed with unibus.

    `data_dir` must exist; the bus keeps its messages in `nats/` and its generated configuration in `run/` below it.
    `max_payload` is the largest message in bytes. `tls` None means none; `ws_host` None means no WebSocket listener.
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
