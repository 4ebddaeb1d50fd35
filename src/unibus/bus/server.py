"""What a life of the bus asks of its nats-server, whoever runs that. A port; the two kinds stand beside it."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from unibus.bus.links import Links
from unibus.bus.shut_out import ShutOut


@dataclass(frozen=True, slots=True)
class Reached:
    """Where the daemon connects: a URL, its TLS, and the server's name, by which it describes itself.

    `advice` is what to do, should it not let the daemon in.
    """

    address: str
    tls: ssl.SSLContext | None
    name: str
    advice: str = ""


class Server(Protocol):
    """nats-server through all its lives, one after the other: each begins with `start` and ends with `stop`.

    `kind` is what `/healthz` calls it. `lease` is how many seconds a connection may last before it is decided on anew,
    None without end. `port` and `ws_port` are where members connect, the same in every life; 0 before the first.
    `shut_out` are users whose messages had made it store nothing more.
    """

    kind: str
    lease: int | None
    port: int
    ws_port: int
    shut_out: ShutOut

    async def prepare(self) -> None:
        """Look once at what every life needs. Raises StartRefused."""

    async def start(self, over: Callable[[str], None]) -> None:
        """Begin a life; `over` hears why it ended, should it end by itself.

        Raises BusUnavailable, and StartRefused where only a person can help.
        """

    def name_taken(self) -> bool:
        """Whether another server of its cluster has its name."""

    async def digest(self) -> str | None:
        """The digest of the configuration that it was given, None where only `vet` can say whether that is right."""

    async def reach(self) -> Reached:
        """Where to connect, once somebody listens there. Raises BusUnavailable."""

    async def vet(self, links: Links, members: str) -> None:
        """Make sure that nobody is, or gets, into the account `members` but by us. Raises BusUnavailable."""

    async def renew(self) -> None:
        """Have it take up the certificate that is in its file now; return when it shows it. Raises BusUnavailable."""

    def shortage(self) -> str:
        """Why it stores no more messages, or soon cannot; empty when it can."""

    def stuck(self) -> bool:
        """Whether it stores nothing more although it could again, so that only a new life helps."""

    async def drain(self) -> bool:
        """Take in nobody more and tell members to go elsewhere: this life is about to end. Whether that was done."""

    async def subdue(self) -> None:
        """It did not obey: it must serve nobody any more, as far as that is in our hands."""

    async def stop(self, grace: float) -> None:
        """End the life, within `grace` seconds."""
